#!/usr/bin/env python3
"""Writes tiny random Gemma 3 checkpoints and what huggingface/transformers computes from them, in f32 on the CPU.

usage: make_golden.py OUT_DIR     (one folder for each case)

A case is a Hugging Face folder (config.json, model.safetensors or shards) and expected.safetensors:
  tokens      i32 [n]           the prompt, <bos> first
  positions   i32 [p]           the positions that the rows below belong to
  hidden.N    f32 [p, D]        the residual stream after layer N (before the final norm)
  logits      f32 [p, vocab]
The configuration is written with the keys of published checkpoints and the model is then loaded from the folder, so
what is tested is what transformers makes of such a folder; the rotation frequencies it arrived at are asserted.
"""
import json
import math
import platform
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM

LINEAR_8 = {"rope_type": "linear", "factor": 8.0}

# `huge`: the norm after the feed-forward is scaled up so that the residual stream passes 65504, the end of f16.
CASES = {
    "hd64-gqa2-rope8": dict(dim=96, ffn=64, layers=7, heads=2, kv=1, head=64, scalar=64, window=8, vocab=256,
                            rope=LINEAR_8, prompt=40, shards=2),
    "hd128-mha-scalar168": dict(dim=160, ffn=96, layers=2, heads=1, kv=1, head=128, scalar=168, window=16, vocab=512,
                                rope=LINEAR_8, prompt=48),
    "hd256-gqa4": dict(dim=64, ffn=96, layers=1, heads=4, kv=1, head=256, scalar=256, window=512, vocab=512,
                       rope=None, prompt=33),
    "hd64-dim320-huge": dict(dim=320, ffn=64, layers=1, heads=2, kv=1, head=64, scalar=40, window=24, vocab=256,
                             rope=None, prompt=70, huge=True),
    "hd64-long": dict(dim=32, ffn=64, layers=6, heads=2, kv=1, head=64, scalar=64, window=512, vocab=256,
                      rope=None, prompt=6000),
}


def config(c):
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "torch_dtype": "float32",
        "vocab_size": c["vocab"], "hidden_size": c["dim"], "intermediate_size": c["ffn"],
        "num_hidden_layers": c["layers"], "num_attention_heads": c["heads"], "num_key_value_heads": c["kv"],
        "head_dim": c["head"], "query_pre_attn_scalar": c["scalar"], "sliding_window": c["window"],
        "sliding_window_pattern": 6,
        "layer_types": ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(c["layers"])],
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": c["rope"],
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "tie_word_embeddings": True, "initializer_range": 0.02,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "use_cache": True,
    }


def weights(c, generator):
    """Projections keep the size of their input, embeddings give logits of about +-1.5, norms are 1 +- 0.1."""
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    matrix = lambda rows, columns: normal(rows, columns) / math.sqrt(columns)
    norm = lambda n: 0.1 * normal(n)
    d, e = c["dim"], c["head"]
    w = {"model.embed_tokens.weight": 1.5 * matrix(c["vocab"], d)}
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = norm(d)
        w[p + "self_attn.q_proj.weight"] = matrix(c["heads"] * e, d)
        w[p + "self_attn.k_proj.weight"] = matrix(c["kv"] * e, d)
        w[p + "self_attn.v_proj.weight"] = matrix(c["kv"] * e, d)
        w[p + "self_attn.o_proj.weight"] = matrix(d, c["heads"] * e)
        # Larger norms of q and k: scores spread enough for attention to choose.
        w[p + "self_attn.q_norm.weight"] = 0.5 + norm(e)
        w[p + "self_attn.k_norm.weight"] = 0.5 + norm(e)
        w[p + "post_attention_layernorm.weight"] = norm(d)
        w[p + "pre_feedforward_layernorm.weight"] = norm(d)
        w[p + "mlp.gate_proj.weight"] = matrix(c["ffn"], d)
        w[p + "mlp.up_proj.weight"] = matrix(c["ffn"], d)
        w[p + "mlp.down_proj.weight"] = matrix(d, c["ffn"])
        w[p + "post_feedforward_layernorm.weight"] = norm(d) + (60000.0 if c.get("huge") else 0.0)
    w["model.norm.weight"] = norm(d)
    return w


def write_weights(w, folder, shards):
    if shards == 1:
        save_file(w, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(w)
    where = {}
    for i in range(shards):
        part = names[len(names) * i // shards:len(names) * (i + 1) // shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file({n: w[n] for n in part}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(t.numel() * 4 for t in w.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def check_rotations(model, c):
    """The model rotates as the configuration says: one set of frequencies for global layers, one for local ones."""
    exponents = torch.arange(0, c["head"], 2, dtype=torch.float64) / c["head"]
    want = {"global": 1e6 ** -exponents / (c["rope"]["factor"] if c["rope"] else 1), "local": 1e4 ** -exponents}
    have = {n: b.double() for n, b in model.named_buffers() if n.endswith("inv_freq") and "original" not in n}
    if c["layers"] < 6:  # no global layer, and transformers then makes no such rotation
        del want["global"]
    for kind, frequencies in want.items():
        found = [n for n, b in have.items() if torch.allclose(b, frequencies, rtol=1e-5, atol=0)]
        assert found, f"no {kind} rotation among {list(have)}"


def positions(c):
    n, w = c["prompt"], c["window"]
    wanted = {0, 1, 2, w - 1, w, w + 1, 2 * w, n // 2, n - 2, n - 1} | ({512 * 5 + 3, 4096} if n > 4096 else set())
    return sorted(p for p in wanted if p < n)


def make(name, c, out, seed):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    (folder / "config.json").write_text(json.dumps(config(c), indent=1) + "\n")
    w = weights(c, generator)
    write_weights(w, folder, c.get("shards", 1))

    model = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    check_rotations(model, c)
    for key in ("sliding_window", "query_pre_attn_scalar", "head_dim", "rms_norm_eps"):
        assert getattr(model.config, key) == config(c)[key], key
    assert list(model.config.layer_types) == config(c)["layer_types"]
    for key, value in w.items():
        assert torch.equal(model.state_dict()[key], value), key

    tokens = torch.randint(3, c["vocab"], (1, c["prompt"]), generator=generator)
    tokens[0, 0] = 2
    at = positions(c)
    hidden = {}

    def keep(i):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            hidden[f"hidden.{i}"] = output[0, at].clone().contiguous()
        return hook

    for i, layer in enumerate(model.model.layers):
        layer.register_forward_hook(keep(i))
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits[0, at].contiguous()
    assert logits.isfinite().all() and logits.dtype == torch.float32 and len(hidden) == c["layers"]
    peak = max(h.abs().max().item() for h in hidden.values())
    assert peak > 65504 if c.get("huge") else peak < 1000
    save_file({"tokens": tokens[0].int(), "positions": torch.tensor(at, dtype=torch.int32), **hidden, "logits": logits},
              folder / "expected.safetensors")
    print(f"{name}: {sum(t.numel() for t in w.values())} parameters, positions {at}, logits std {logits.std():.2f}, "
          f"largest residual {peak:.4g}", flush=True)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_float32_matmul_precision("highest")
    for seed, (name, c) in enumerate(CASES.items(), 1):
        make(name, c, Path(sys.argv[1]), seed)
    print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
