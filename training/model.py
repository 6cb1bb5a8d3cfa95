"""Gemma 3 in plain PyTorch, with the tensor names of a published checkpoint.

Written out rather than taken from transformers, for two reasons: dropout on the residual branches, and attention
through flex_attention, which skips what a sliding window masks. export.py checks it against transformers'
Gemma3ForCausalLM.
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

GLOBAL_EVERY = 6  # layer i attends to everything when (i + 1) % 6 == 0, and to the last `window` positions otherwise


@dataclass
class Shape:
    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int = 128
    window: int = 512
    vocab: int = 8192


SHAPES = {
    # 29.4 M parameters: 31.2 MB in Q8_0, under the 32 MiB that the bundled file may have.
    "student": Shape(dim=512, ffn=1536, layers=8, heads=4, kv_heads=2),
    # 62 M parameters: only ever used as a teacher.
    "teacher": Shape(dim=768, ffn=2304, layers=8, heads=6, kv_heads=3),
    "toy": Shape(dim=64, ffn=96, layers=6, heads=2, kv_heads=1, head_dim=32),
}


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class Linear(nn.Module):
    """Master weights in f32; the product in the type of `Model.compute`."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02)

    def forward(self, x, dtype):
        return F.linear(x.to(dtype), self.weight.to(dtype))


def rope(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.head_dim = s.head_dim
        self.q_proj = Linear(s.dim, s.heads * s.head_dim)
        self.k_proj = Linear(s.dim, s.kv_heads * s.head_dim)
        self.v_proj = Linear(s.dim, s.kv_heads * s.head_dim)
        self.o_proj = Linear(s.heads * s.head_dim, s.dim)
        self.q_norm = Norm(s.head_dim)
        self.k_norm = Norm(s.head_dim)

    def forward(self, x, cos, sin, mask, dtype):
        split = lambda t: t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q = rope(self.q_norm(split(self.q_proj(x, dtype))), cos, sin).to(dtype)
        k = rope(self.k_norm(split(self.k_proj(x, dtype))), cos, sin).to(dtype)
        v = split(self.v_proj(x, dtype))
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        if isinstance(mask, torch.Tensor):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.head_dim ** -0.5)
        else:
            y = flex_attention(q, k, v, block_mask=mask, scale=self.head_dim ** -0.5)
        return self.o_proj(y.transpose(1, 2).flatten(2), dtype)


class FeedForward(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj = Linear(s.dim, s.ffn)
        self.up_proj = Linear(s.dim, s.ffn)
        self.down_proj = Linear(s.ffn, s.dim)

    def forward(self, x, dtype):
        x = x.to(dtype)
        return self.down_proj(F.gelu(self.gate_proj(x, dtype), approximate="tanh") * self.up_proj(x, dtype), dtype)


class Block(nn.Module):
    def __init__(self, s, dropout):
        super().__init__()
        self.dropout = dropout
        self.self_attn = Attention(s)
        self.mlp = FeedForward(s)
        self.input_layernorm = Norm(s.dim)
        self.post_attention_layernorm = Norm(s.dim)
        self.pre_feedforward_layernorm = Norm(s.dim)
        self.post_feedforward_layernorm = Norm(s.dim)

    def forward(self, x, cos, sin, mask, dtype):
        drop = lambda t: F.dropout(t, self.dropout, self.training)
        y = self.self_attn(self.input_layernorm(x), cos, sin, mask, dtype)
        x = x + drop(self.post_attention_layernorm(y))
        y = self.mlp(self.pre_feedforward_layernorm(x), dtype)
        return x + drop(self.post_feedforward_layernorm(y))


class Body(nn.Module):
    def __init__(self, s, dropout):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocab, s.dim)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Block(s, dropout) for _ in range(s.layers))
        self.norm = Norm(s.dim)


class Model(nn.Module):
    def __init__(self, shape, dropout=0.0):
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.compute = torch.bfloat16
        self.model = Body(shape, dropout)
        self.rotations = {}

    def rotation(self, length, base, device):
        if (length, base) not in self.rotations:
            inverse = base ** (-torch.arange(0, self.shape.head_dim, 2, dtype=torch.float64) / self.shape.head_dim)
            angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse)
            angles = torch.cat((angles, angles), dim=-1)
            self.rotations[length, base] = angles.cos().float().to(device), angles.sin().float().to(device)
        return self.rotations[length, base]

    def forward(self, tokens, masks):
        """-> the final hidden state, f32; `logits` turns it into scores (apart, so that a loss can fuse with it)."""
        length, device = tokens.shape[1], tokens.device
        turn_local, turn_global = self.rotation(length, 1e4, device), self.rotation(length, 1e6, device)
        x = self.model.embed_tokens(tokens) * math.sqrt(self.shape.dim)
        x = F.dropout(x, self.dropout, self.training)
        for i, layer in enumerate(self.model.layers):
            turn, mask = (turn_global, masks[1]) if (i + 1) % GLOBAL_EVERY == 0 else (turn_local, masks[0])
            x = layer(x, *turn, mask, self.compute)
        return self.model.norm(x)

    def head(self):
        return self.model.embed_tokens.weight, self.compute


def logits(hidden, weight, dtype):
    return F.linear(hidden.to(dtype), weight.to(dtype)).float()


def masks(length, window, device, flex):
    """(local, global) attention masks, as block masks for flex_attention or as booleans for the plain kernel."""
    local = lambda b, h, q, k: (q >= k) & (q - k < window)
    whole = lambda b, h, q, k: q >= k
    if flex:
        return tuple(create_block_mask(m, None, None, length, length, device=device) for m in (local, whole))
    q, k = torch.arange(length, device=device)[:, None], torch.arange(length, device=device)[None]
    return tuple(m(0, 0, q, k) for m in (local, whole))


def compile_blocks(model):
    """Compiles one layer and reuses it for all: seconds where compiling the whole model takes a minute."""
    for layer in model.model.layers:
        layer.compile(dynamic=False)
    return model


def save(model, shape_name, path):
    torch.save({"shape": shape_name, "weights": {k: v.cpu() for k, v in model.state_dict().items()}}, path)


def load(path, device, dropout=0.0):
    stored = torch.load(path, map_location="cpu")
    model = Model(SHAPES[stored["shape"]], dropout)
    model.load_state_dict(stored["weights"])
    return model.to(device)
