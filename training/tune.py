#!/usr/bin/env python3
"""A short chat tuning on one GPU: half of each batch is chat (loss on the answers only), half plain text.

With --teachers the loss is a mixture, as in the distillation: their mean probabilities, and the text itself with a
share of a quarter on plain text, a half in answers and all of it at <end_of_turn>, which no teacher knows.

Writes OUT/tuned.pt and OUT/result.json: bits per byte of the held-out text before and after, and bits per byte of the
answers of chats made from held-out stories.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import chat
import data
from model import compile_blocks, load, logits, masks, save
from train import bits_per_byte, compiled, mean_probabilities


def answer_loss(hidden, head, y, weight):
    losses = F.cross_entropy(logits(hidden, *head).flatten(0, 1), y.flatten(), reduction="none")
    return (losses * weight.flatten()).sum() / weight.sum()


def taught_loss(hidden, head, y, weight, p, hard):
    log_q = logits(hidden, *head).log_softmax(-1)
    losses = -(1 - hard) * (p * log_q).sum(-1) - hard * log_q.gather(-1, y[..., None])[..., 0]
    return (losses * weight).sum() / weight.sum()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--init", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--cache", required=True)
    a.add_argument("--corpus", required=True)
    a.add_argument("--teachers", nargs="*", default=[])
    a.add_argument("--lr", type=float, default=1e-4)
    a.add_argument("--steps", type=int, default=300)
    a.add_argument("--batch", type=int, default=32)
    a.add_argument("--dropout", type=float, default=0.1)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    began, cuda = time.time(), torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if cuda:
        torch.set_float32_matmul_precision("high")
        torch._dynamo.config.recompile_limit = 64
    torch.manual_seed(a.seed)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)

    model = load(a.init, device, a.dropout)
    teachers = [load(t, device).eval().requires_grad_(False) for t in a.teachers]
    if cuda:
        for each in (model, *teachers):
            compile_blocks(each)
    shape_name = torch.load(a.init, map_location="cpu")["shape"]
    sp = data.tokenizer()
    made = [chat.encode(sp, *e) for e in chat.examples(a.corpus, a.seed)]
    held_out = [chat.encode(sp, *e) for e in chat.examples(a.corpus, 1, "valid")]
    bytes_held_out = sum(len(answer.encode()) for _, answer in chat.examples(a.corpus, 1, "valid"))
    tokens, answers = chat.pack(made)
    print(f"{len(made)} chats in {len(tokens)} windows, {answers.sum()} answer tokens; {len(held_out)} held out, "
          f"{time.time() - began:.0f} s", flush=True)

    stream = data.Stream(a.cache, a.batch // 2, a.seed, device)
    windows, size = data.valid_windows(a.cache, a.batch)
    m = masks(data.CONTEXT, model.shape.window, device, flex=cuda)
    # Each held-out chat has a window of its own, as it will when the model is used.
    alone = [chat.pack([row]) for row in held_out]
    while len(alone) % a.batch:
        alone.append((alone[0][0], np.zeros_like(alone[0][1])))
    chat_tokens, chat_answers = (torch.from_numpy(np.concatenate(p)) for p in zip(*alone))
    chat_windows = [(t[:, :-1].contiguous(), t[:, 1:].contiguous(), s[:, 1:])
                    for t, s in zip(chat_tokens.split(a.batch), chat_answers.split(a.batch))]

    def scores():
        model.eval()
        return {"text": bits_per_byte([model], windows, size, m, device),
                "answers": bits_per_byte([model], chat_windows, bytes_held_out, m, device)}

    before = scores()
    adam = torch.optim.AdamW(model.parameters(), lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=cuda)
    plain_loss, mixed_loss = compiled(answer_loss), compiled(taught_loss)
    rng, order = np.random.default_rng(a.seed), []
    for step in range(a.steps):
        if len(order) < a.batch // 2:
            order = list(rng.permutation(len(tokens)))
        rows, order = order[:a.batch // 2], order[a.batch // 2:]
        plain = stream.next()
        mixed = torch.cat([torch.from_numpy(tokens[rows]).to(device), plain])
        weight = torch.cat([torch.from_numpy(answers[rows]).to(device), torch.ones_like(plain, dtype=torch.bool)])
        x, y, weight = mixed[:, :-1].contiguous(), mixed[:, 1:].contiguous(), weight[:, 1:].float()
        model.train()
        if teachers:
            with torch.no_grad():
                p = mean_probabilities(teachers, x, m)
            hard = torch.full(y.shape, 0.25, device=device)
            hard[:a.batch // 2] = 0.5
            hard[y == data.END_OF_TURN] = 1.0
            loss = mixed_loss(model(x, m), model.head(), y, weight, p, hard)
        else:
            loss = plain_loss(model(x, m), model.head(), y, weight)
        loss.backward()
        progress = step / a.steps
        for g in adam.param_groups:
            g["lr"] = a.lr * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * progress))
        adam.step()
        adam.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(f"step {step}, loss {loss.item():.4f}, {time.time() - began:.0f} s", flush=True)
    result = {"lr": a.lr, "steps": a.steps, "chats": len(made), "before": before, "after": scores()}
    save(model, shape_name, out / "tuned.pt")
    (out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
