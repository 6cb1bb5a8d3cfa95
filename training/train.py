#!/usr/bin/env python3
"""Trains one model, alone or from teachers. One process, or several under torchrun (the batch is for each process).

Matrices: Muon (orthogonalised momentum); embedding and norms: AdamW. The schedule runs on the clock: --seconds is the
whole life of the process, so a leased machine's time is used up and no more. Writes OUT/log.csv, and OUT/best.pt, the
moving average of the weights that did best on the held-out text.
"""
import argparse
import copy
import csv
import math
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F

import data
from model import SHAPES, Model, compile_blocks, load, logits, masks, save

STARTED = time.time()


class Muon:
    """Momentum whose matrix is replaced by its nearest orthogonal one, by five Newton-Schulz steps in bf16.

    Matrices of one shape are stacked and done at once.
    """

    def __init__(self, matrices, lr, decay, momentum=0.95):
        self.lr, self.decay, self.momentum = lr, decay, momentum
        shapes = defaultdict(list)
        for p in matrices:
            shapes[p.shape].append(p)
        self.groups = [(g, torch.zeros(len(g), *s, device=g[0].device)) for s, g in shapes.items()]

    @staticmethod
    def orthogonal(g):
        x = g.bfloat16()
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return (x.mT if tall else x).float()

    @torch.no_grad()
    def step(self, scale):
        for params, momentum in self.groups:
            grad = torch.stack([p.grad for p in params])
            momentum.lerp_(grad, 1 - self.momentum)
            update = self.orthogonal(grad.lerp(momentum, self.momentum))
            rows, columns = params[0].shape
            lr = self.lr * scale
            torch._foreach_mul_(params, 1 - lr * self.decay)
            torch._foreach_add_(params, list(update.unbind()), alpha=-lr * max(1, rows / columns) ** 0.5)


def compiled(f):
    return torch.compile(f, dynamic=False) if torch.cuda.is_available() else f


def hard_loss(hidden, head, y):
    return F.cross_entropy(logits(hidden, *head).flatten(0, 1), y.flatten())


def mixed_loss(hidden, head, y, p, hard):
    """Cross entropy against the teachers' mean probabilities p, and a share `hard` against the text itself."""
    log_q = logits(hidden, *head).log_softmax(-1)
    soft = -(p * log_q).sum(-1).mean()
    return (1 - hard) * soft - hard * log_q.gather(-1, y[..., None]).mean()


def add_softmax(total, hidden, head):
    return total + logits(hidden, *head).softmax(-1)


def mean_probabilities(models, x, m, add=add_softmax):
    total = 0
    for model in models:
        total = add(total, model(x, m), model.head())
    return total / len(models)


@torch.no_grad()
def bits_per_byte(models, windows, size, m, device):
    """Held-out bits per byte; of several models, that of their mean probabilities."""
    nats = 0.0
    for x, y, scored in windows:
        x, y, scored = x.to(device), y.to(device), scored.to(device)
        p = mean_probabilities(models, x, m).gather(-1, y[..., None])[..., 0]
        nats -= (p.log() * scored).double().sum().item()
    return nats / math.log(2) / size


def schedule(progress, warm=0.03, hold=0.4):
    """Linear warm-up, flat, then linear to zero."""
    if progress < warm:
        return progress / warm
    return 1.0 if progress < hold else max(0.0, (1 - progress) / (1 - hold))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", required=True)
    a.add_argument("--cache", required=True, help="folder written by data.py")
    a.add_argument("--shape", default="student", choices=SHAPES)
    a.add_argument("--seconds", type=float, required=True)
    a.add_argument("--batch", type=int, default=32, help="windows of 2,048 tokens a step and process")
    a.add_argument("--lr", type=float, default=0.01, help="Muon's; AdamW's is --adam-lr (0.01 and 0.02 did alike)")
    a.add_argument("--adam-lr", type=float, default=2e-3)
    a.add_argument("--adam", action="store_true", help="AdamW for the matrices too (for comparison)")
    a.add_argument("--decay", type=float, default=0.1)
    a.add_argument("--dropout", type=float, default=0.1)
    a.add_argument("--ema", type=float, default=0.998)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--init", help="weights to start from")
    a.add_argument("--teachers", nargs="*", default=[])
    a.add_argument("--hard", type=float, default=0.25, help="share of the plain loss when there are teachers")
    a.add_argument("--eval-every", type=float, default=20, help="seconds")
    a.add_argument("--no-flex", action="store_true")
    a = a.parse_args()

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
        torch._dynamo.config.recompile_limit = 64  # one code for both masks, training, evaluation, teachers
    if world > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    torch.manual_seed(a.seed)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    say = lambda *t: print(f"[{time.time() - STARTED:6.1f}s r{rank}]", *t, flush=True)

    if a.init:
        model = load(a.init, device, a.dropout)
        assert model.shape == SHAPES[a.shape]
    else:
        model = Model(SHAPES[a.shape], a.dropout).to(device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    teachers = [load(t, device).eval().requires_grad_(False) for t in a.teachers]
    if cuda:
        for t in teachers:
            for p in t.parameters():
                p.data = p.data.bfloat16() if p.ndim == 2 else p.data
        for m in (model, average, *teachers):
            compile_blocks(m)
    torch.manual_seed(a.seed + 1000 * rank)  # dropout differs between ranks, the start does not

    names = dict(model.named_parameters())
    matrices = [p for n, p in names.items() if p.ndim == 2 and "embed" not in n]
    others = [p for p in names.values() if p.ndim == 1]
    groups = [{"params": [model.model.embed_tokens.weight], "weight_decay": 0.05},
              {"params": others, "weight_decay": 0.0}]
    if a.adam:
        groups.append({"params": matrices, "weight_decay": a.decay})
    muon = Muon([] if a.adam else matrices, a.lr, a.decay)
    if cuda:
        muon.orthogonal = compiled(Muon.orthogonal)
    adam = torch.optim.AdamW(groups, lr=a.adam_lr, betas=(0.9, 0.95), fused=cuda)
    loss_of, mixed_of, add = compiled(hard_loss), compiled(mixed_loss), compiled(add_softmax)

    stream = data.Stream(a.cache, a.batch, a.seed, device, rank, world)
    windows, size = data.valid_windows(a.cache, a.batch)
    m = masks(data.CONTEXT, model.shape.window, device, flex=cuda and not a.no_flex)
    parameters = list(model.parameters())
    say(f"{a.shape}: {sum(p.numel() for p in parameters):,} parameters; {vars(a)}")

    log = csv.writer(open(out / "log.csv", "w", newline="")) if rank == 0 else None
    if log:
        log.writerow(["step", "tokens", "epochs", "seconds", "train_loss", "valid_bits_per_byte"])
        if len(teachers) > 1:
            say("teachers, each:", *(f"{bits_per_byte([t], windows, size, m, device):.4f}" for t in teachers),
                f"together: {bits_per_byte(teachers, windows, size, m, device):.4f}")

    # Clock and verdict come from rank 0, so that all ranks agree on them.
    clock = torch.zeros(2, device=device, dtype=torch.float64)
    warm_steps, began, next_eval, best, step, losses = 6, None, 0.0, math.inf, 0, []
    progress = 0.0
    while progress < 1:
        batch = stream.next()
        x, y = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        model.train()
        if teachers:
            with torch.no_grad():
                p = mean_probabilities(teachers, x, m, add)
            loss = mixed_of(model(x, m), model.head(), y, p, a.hard)
        else:
            loss = loss_of(model(x, m), model.head(), y)
        loss.backward()
        if world > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters]).bfloat16()
            torch.distributed.all_reduce(flat)
            for p, g in zip(parameters, flat.split([p.numel() for p in parameters])):
                p.grad.copy_(g.view_as(p) / world)
        scale = schedule(progress)
        for g in adam.param_groups:
            g["lr"] = a.adam_lr * scale
        muon.step(scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        decay = min(a.ema, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), parameters, 1 - decay)
        losses.append(loss.detach())

        now = time.time() - STARTED
        if step == warm_steps:
            began = now
        if began is not None:
            progress = min(1.0, (now - began) / max(1.0, a.seconds - began))
        evaluate = now >= next_eval and began is not None or progress >= 1
        if world > 1:
            clock[0], clock[1] = progress, evaluate
            torch.distributed.broadcast(clock, 0)
            progress, evaluate = clock[0].item(), bool(clock[1].item())
        if evaluate:
            next_eval = now + a.eval_every
            if rank == 0:
                bpb = bits_per_byte([average], windows, size, m, device)
                tokens, train = step * a.batch * world * data.CONTEXT, torch.stack(losses).mean().item()
                log.writerow([step, tokens, f"{stream.epochs():.3f}", f"{now:.1f}", f"{train:.4f}", f"{bpb:.4f}"])
                say(f"step {step}, {tokens / 1e6:.0f} M tokens, epoch {stream.epochs():.2f}, loss {train:.4f}, "
                    f"valid {bpb:.4f}, rate {schedule(progress):.2f}")
                if bpb < best:
                    best = bpb
                    save(average, a.shape, out / "best.pt")
                if not math.isfinite(train):
                    sys.exit("the loss is not finite")
            losses = []
    if rank == 0:
        (out / "done").write_text(f"{best:.4f} {step} steps\n")
        say(f"best {best:.4f}")
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
