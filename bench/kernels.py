#!/usr/bin/env python3
"""The kernels' own speed, as Markdown tables: one thread, Gemma 3's shapes, every form.

    cmake -S . -B BUILD -G Ninja -DCMAKE_BUILD_TYPE=Release -DUNICORN_BENCH=ON && cmake --build BUILD
    bench/kernels.py BUILD [--isa avx512,avx2] [--repetitions 3] [--seconds 0.2]

Medians of the repetitions. A share of "read" is of the plain reads of memory by one thread in the
same run, a share of "peak" of the most multiply-adds that one thread can issue with the instruction
that the form uses (limits_bench), measured in the same run too. Repetitions of all benchmarks of a
table are interleaved, so that a noisy machine disturbs all rows alike.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

# GGUF's ids (tensor/dtype.h).
TYPES = {0: "F32", 1: "F16", 30: "BF16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K",
         11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS"}
FLOATS = (0, 1, 30)
GATE_4B = 2  # matmul_bench's shape: 10240 x 2560


def run(build, name, pattern, isa, args):
    """The median of every benchmark of binary `name` that `pattern` matches: {name: benchmark}."""
    binary = next(build.glob(f"src/*/{name}"), None)
    if binary is None:
        sys.exit(f"{build}: no {name}; configure with -DUNICORN_BENCH=ON and build")
    command = [binary, f"--benchmark_filter={pattern}", "--benchmark_format=json",
               f"--benchmark_min_time={args.seconds}", f"--benchmark_repetitions={args.repetitions}",
               "--benchmark_enable_random_interleaving=true"]
    result = subprocess.run(command, env={**os.environ, "UNICORN_ISA": isa}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{name}: {result.stderr.strip()}")
    found = {}
    for bench in json.loads(result.stdout)["benchmarks"]:
        if bench.get("error_occurred") or bench.get("aggregate_name", "median") != "median":
            continue
        if args.repetitions > 1 and "aggregate_name" not in bench:
            continue
        found[bench["run_name"]] = bench
    return found


def limits(build, isa, args):
    peaks = {name.removeprefix("peak/"): bench["GMAC/s"]
             for name, bench in run(build, "limits_bench", "peak", isa, args).items()}
    print(f"\nPeaks of one thread, GMAC/s: " + ", ".join(f"{k} {v:.0f}" for k, v in peaks.items()))
    return peaks


def matmul(build, isa, peaks, args):
    pattern = f"read_bandwidth/threads:1/|/shape:{GATE_4B}/T:(1|8|512)/threads:1/"
    found = run(build, "matmul_bench", pattern, isa, args)
    read = found.pop("read_bandwidth/threads:1/real_time")["GB/s"]
    print(f"\n### matmul, {isa}: 10240 x 2560 (4B gate), one thread; plain read {read:.1f} GB/s\n")
    print("| type | 1 row, GB/s | share of read | 8 rows / 1 row, time | 512 rows, GMAC/s | share of peak |")
    print("|---|---|---|---|---|---|")
    for type_id, name in TYPES.items():
        kind = "as_floats" if type_id in FLOATS else "packed"
        at = {t: found.get(f"{kind}/type:{type_id}/shape:{GATE_4B}/T:{t}/threads:1/real_time") for t in (1, 8, 512)}
        if None in at.values():
            continue
        peak = peaks.get(f"{'f32' if type_id in FLOATS else 'int8'}_{isa}")
        macs = at[512]["GMAC/s"]
        print(f"| {name} | {at[1]['GB/s']:.1f} | {100 * at[1]['GB/s'] / read:.0f} % "
              f"| {at[8]['real_time'] / at[1]['real_time']:.2f} | {macs:.0f} "
              f"| {f'{100 * macs / peak:.0f} %' if peak else '-'} |")


def others(build, name, args):
    """Benchmarks whose names say the form; the scalar one is a definition and no competitor."""
    print(f"\n### {name}\n")
    print("| benchmark | time, us | GB/s | GMAC/s |")
    print("|---|---|---|---|")
    for key, bench in sorted(run(build, name, "-scalar", "", args).items()):
        cells = [f"{bench[c]:.1f}" if c in bench else "" for c in ("GB/s", "GMAC/s")]
        unit = {"ns": 1e-3, "us": 1, "ms": 1e3}[bench["time_unit"]]
        print(f"| {bench.get('label') or key} | {bench['real_time'] * unit:.2f} | {cells[0]} | {cells[1]} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--isa", default="avx512,avx2")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2)
    args = parser.parse_args()
    for isa in args.isa.split(","):
        peaks = limits(args.build, isa, args)
        matmul(args.build, isa, peaks, args)
    for name in ("attention_bench", "sampler_bench", "thread_pool_bench"):
        others(args.build, name, args)


if __name__ == "__main__":
    main()
