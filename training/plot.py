#!/usr/bin/env python3
"""Draws the loss curves as SVG: plot.py OUT.svg LABEL=LOG.csv..."""
import csv
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 440, 64, 250, 44, 48
LOW, HIGH = 1.10, 1.30  # bits a byte
COLOURS = ["#4477aa", "#ccbb44", "#66ccee", "#aa3377", "#228833"]

runs = []
for argument in sys.argv[2:]:
    label, path = argument.split("=", 1)
    with open(path, newline="") as f:
        points = [(int(r["tokens"]) / 1e6, float(r["valid_bits_per_byte"])) for r in csv.DictReader(f)]
    runs.append((label, points))
most = max(x for _, points in runs for x, _ in points)
px = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * x / most
py = lambda y: TOP + (HEIGHT - TOP - BOTTOM) * (HIGH - y) / (HIGH - LOW)

out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
       ' font-family="sans-serif" font-size="13">',
       f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
       f'<text x="{LEFT}" y="24" font-size="15" fill="#222">Held-out bits per byte against tokens trained on</text>']
for i in range(5):
    y = LOW + (HIGH - LOW) * i / 4
    out.append(f'<path d="M{LEFT} {py(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
               f'<text x="{LEFT - 8}" y="{py(y) + 4:.1f}" text-anchor="end" fill="#444">{y:.2f}</text>')
for x in range(0, int(most) + 1, 200):
    out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#444">{x} M</text>')
labels = []
for (label, points), colour in zip(runs, COLOURS):
    inside = [(x, y) for x, y in points if y <= HIGH]
    line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in inside)
    out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    labels.append((min(y for _, y in points), label, colour))
for i, (best, label, colour) in enumerate(sorted(labels, reverse=True)):
    y = TOP + 20 + i * 24
    out.append(f'<path d="M{WIDTH - RIGHT + 20} {y - 4}h22" stroke="{colour}" stroke-width="3"/>'
               f'<text x="{WIDTH - RIGHT + 50}" y="{y}" fill="#222">{label}: {best:.3f}</text>')
with open(sys.argv[1], "w", encoding="utf-8") as f:
    f.write("\n".join(out) + "\n</svg>\n")
