"""The corpus as tokens: reading, tokenising, training windows and the held-out evaluation windows."""
import lzma
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import torch

PAD, EOS, BOS, UNK, START_OF_TURN, END_OF_TURN = range(6)
CONTEXT = 2048
TOKENIZER = Path(__file__).parent / "tokenizer" / "tokenizer.model"

# How often each file is seen in one epoch. The simple prose counts more: it is what the model is meant to write.
WEIGHTS = {"children": 1.5, "youth": 1.0, "general": 0.8}


def tokenizer():
    return sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))


def documents(corpus, name):
    text = lzma.open(Path(corpus, f"{name}.txt.xz"), "rt", encoding="utf-8").read()
    return text.rstrip("\n").split("\n<|doc|>\n")


def _start():
    global _sp
    _sp = tokenizer()


def _encode(text):
    return np.array(_sp.encode(text), dtype=np.int16), len(text.encode())


def tokenise(corpus, out, processes):
    """Writes NAME.npz for each file of the corpus: all tokens, where each document starts, its length in bytes."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(processes, _start) as pool:
        for name in [*WEIGHTS, "valid"]:
            tokens, sizes = zip(*pool.imap(_encode, documents(corpus, name), chunksize=2))
            starts = np.cumsum([0] + [len(t) for t in tokens])
            np.savez(Path(out, f"{name}.npz"), tokens=np.concatenate(tokens), starts=starts, bytes=np.array(sizes))
            print(f"{name}: {len(tokens)} documents, {sum(sizes)} bytes, {starts[-1]} tokens, "
                  f"{sum(sizes) / starts[-1]:.3f} bytes a token", flush=True)


def load(cache, name):
    """-> ([tokens of each document], [bytes of each document])"""
    with np.load(Path(cache, f"{name}.npz")) as f:
        return np.split(f["tokens"], f["starts"][1:-1]), f["bytes"]


class Stream:
    """Endless batches of windows [batch, CONTEXT + 1].

    An epoch shuffles the documents, lays them end to end as <bos> document <eos>, cuts that into windows at a random
    offset and shuffles those. Documents are not masked from each other: <bos> tells the model where one starts.
    """

    def __init__(self, cache, batch, seed, device, rank=0, world=1):
        self.documents = [(d, w) for name, w in WEIGHTS.items() for d in load(cache, name)[0]]
        self.random = np.random.default_rng(seed)
        self.batch, self.device, self.rank, self.world = batch, device, rank, world
        self.epoch, self.left = 0, []

    def _next_epoch(self):
        chosen = [d for d, w in self.documents for _ in range(int(w + self.random.random()))]
        self.random.shuffle(order := np.arange(len(chosen)))
        parts = [p for i in order for p in (np.array([BOS], np.int16), chosen[i], np.array([EOS], np.int16))]
        flat = np.concatenate(parts)[self.random.integers(CONTEXT):]
        starts = np.arange((len(flat) - 1) // CONTEXT) * CONTEXT
        self.random.shuffle(starts)
        self.tokens = torch.from_numpy(flat).to(self.device)
        self.starts = torch.from_numpy(starts).to(self.device)
        step = self.batch * self.world
        self.left = list(range(self.rank * self.batch, len(starts) - step + 1, step))
        self.epoch += 1
        self.epoch_steps = len(self.left)

    def next(self):
        if not self.left:
            self._next_epoch()
        at = self.left.pop(0)
        starts = self.starts[at:at + self.batch]
        return self.tokens[starts[:, None] + torch.arange(CONTEXT + 1, device=self.device)].long()

    def epochs(self):
        return self.epoch - len(self.left) / self.epoch_steps if self.epoch else 0.0


def valid_windows(cache, batch):
    """Held-out text as windows (inputs, targets, scored) and its bytes.

    Whole documents, <bos> first. A document longer than the context is read in windows that step by half of it; a
    window scores only what no window before it scored, so after the first each token sees at least 1,024 before it.
    <eos> is not scored: it is no byte of the text.
    """
    xs, ys, ms = [], [], []
    texts, sizes = load(cache, "valid")
    for text in texts:
        tokens = np.concatenate([[BOS], text]).astype(np.int64)
        done = 1
        for start in range(0, max(1, len(tokens) - CONTEXT - 1 + CONTEXT // 2), CONTEXT // 2):
            part = tokens[start:start + CONTEXT + 1]
            x, y, m = np.zeros(CONTEXT, np.int64), np.zeros(CONTEXT, np.int64), np.zeros(CONTEXT, bool)
            x[:len(part) - 1], y[:len(part) - 1] = part[:-1], part[1:]
            m[done - 1 - start:len(part) - 1] = True
            done = start + len(part)
            xs.append(x), ys.append(y), ms.append(m)
        assert done == len(tokens)
    while len(xs) % batch:
        xs.append(xs[0]), ys.append(ys[0]), ms.append(np.zeros_like(ms[0]))
    assert sum(m.sum() for m in ms) == sum(map(len, texts))
    x, y, m = (torch.from_numpy(np.stack(a)) for a in (xs, ys, ms))
    return list(zip(x.split(batch), y.split(batch), m.split(batch))), int(sizes.sum())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: data.py CORPUS_DIR OUT_DIR PROCESSES")
    tokenise(sys.argv[1], sys.argv[2], int(sys.argv[3]))
