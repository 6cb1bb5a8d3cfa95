#!/usr/bin/env python3
"""Writes the text the tokenizer is trained on: paragraphs at random, half of them from the simplest prose.

usage: sample.py CORPUS_DIR SAMPLE.txt
"""
import lzma
import random
import sys
from pathlib import Path

SHARES = {"children": 18e6, "youth": 9e6, "general": 8e6}  # characters of each file

random.seed(1)
with open(sys.argv[2], "w", encoding="utf-8") as out:
    for name, limit in SHARES.items():
        text = lzma.open(Path(sys.argv[1], f"{name}.txt.xz"), "rt", encoding="utf-8").read()
        paragraphs = [p for p in text.split("\n") if p and p != "<|doc|>"]
        random.shuffle(paragraphs)
        taken = 0
        for p in paragraphs:
            if taken > limit:
                break
            out.write(p + "\n")
            taken += len(p)
