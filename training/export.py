#!/usr/bin/env python3
"""Writes the trained model as a Hugging Face folder, checks it against transformers, measures it and lets it write.

Measured on the held-out text, f32 arithmetic: the weights as exported (bf16) and as Q8_0 will hold them.
"""
import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import chat
import data
from model import SHAPES, Model, logits, masks
from train import bits_per_byte

SHARD = 15 << 20
# A model this small repeats itself when it is sure, and rambles at temperature 1.
SAMPLING = {"temperature": 0.8, "top_k": 64, "top_p": 0.95, "repetition_penalty": 1.08}
TEMPLATE = (
    "{{ bos_token }}"
    "{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for m in turns -%}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + (first if loop.first else '')"
    " + m['content'] | trim + '<end_of_turn>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def config(s):
    kinds = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(s.layers)]
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "dtype": "bfloat16",
        "vocab_size": s.vocab, "hidden_size": s.dim, "intermediate_size": s.ffn, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "query_pre_attn_scalar": s.head_dim, "sliding_window": s.window, "sliding_window_pattern": 6,
        "layer_types": kinds, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "max_position_embeddings": data.CONTEXT, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "tie_word_embeddings": True, "initializer_range": 0.02,
        "pad_token_id": data.PAD, "eos_token_id": [data.EOS, data.END_OF_TURN], "bos_token_id": data.BOS,
        "use_cache": True,
    }


def write_folder(weights, shape, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shards, size = [{}], 0
    for name, tensor in weights.items():
        n = tensor.numel() * tensor.element_size()
        if size + n > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += n
    where = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        where |= {name: file for name in shard}
    total = sum(t.numel() * t.element_size() for t in weights.values())
    text = lambda o: json.dumps(o, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text({"metadata": {"total_size": total}, "weight_map": where}))
    (folder / "config.json").write_text(text(config(shape)))
    (folder / "generation_config.json").write_text(text({
        "bos_token_id": data.BOS, "eos_token_id": [data.EOS, data.END_OF_TURN], "pad_token_id": data.PAD,
        "do_sample": True, **SAMPLING}))
    (folder / "tokenizer_config.json").write_text(text({
        "tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>",
        "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "legacy": False,
        "clean_up_tokenization_spaces": False, "spaces_between_special_tokens": False,
        "model_max_length": data.CONTEXT, "chat_template": TEMPLATE}))
    shutil.copy(data.TOKENIZER, folder / "tokenizer.model")


def q8_0(w):
    """What a Q8_0 file gives back: blocks of 32 along the inputs, an f16 scale of absmax / 127 each."""
    blocks = w.float().unflatten(-1, (-1, 32))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    q = torch.where(scale > 0, (blocks / scale).round(), 0.0)
    return (q * scale.half().float()).flatten(-2)


def model_with(weights, shape, device):
    model = Model(shape).eval().requires_grad_(False)
    model.load_state_dict(weights)
    model.compute = torch.float32
    return model.to(device)


def check(ours, folder, device):
    """The folder, read by transformers, gives the logits that our own code gives."""
    from transformers import Gemma3ForCausalLM
    theirs = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    theirs = theirs.to(device).eval()
    tokens = torch.randint(6, 8192, (1, 1500), generator=torch.Generator().manual_seed(1)).to(device)
    tokens[0, 0] = data.BOS
    with torch.no_grad():
        want = theirs(tokens).logits.float()
        got = logits(ours(tokens, masks(1500, ours.shape.window, device, flex=False)), *ours.head())
    error = ((got - want).norm() / want.norm()).item()
    print(f"against transformers: relative error {error:.2e}", flush=True)
    assert error < 1e-3
    return theirs, error


def generate(model, text, seed, tokens=500):
    sp = data.tokenizer()
    device = next(model.parameters()).device
    ids = torch.tensor([[data.BOS, *sp.encode(text)]], device=device)
    torch.manual_seed(seed)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=tokens, **SAMPLING,
                         eos_token_id=[data.EOS, data.END_OF_TURN], pad_token_id=data.PAD)[0, ids.shape[1]:].tolist()
    ended = out[-1] in (data.EOS, data.END_OF_TURN)
    return sp.decode([t for t in out if t > data.END_OF_TURN]), ended


PROMPTS = [
    ("text", "Once upon a time there was a little girl who lived with her grandmother near a great forest.", 1),
    ("text", "The old fox looked at the moon and said,", 2),
    ("chat", "Tell me a story about a king and a bird.", 3),
    ("chat", "Tell me a short story.", 4),
    ("chat", 'Tell me a story that begins: "One winter morning a small gray mouse"', 5),
    ("chat", "Tell me a story about a giant.", 6),
    ("chat", "Tell me a bedtime story.", 7),
    ("chat", "What is the capital of France?", 8),
]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--weights", required=True)
    a.add_argument("--out", required=True, help="the Hugging Face folder")
    a.add_argument("--report", required=True, help="folder for numbers.json and samples.json")
    a.add_argument("--cache", required=True)
    a.add_argument("--tokens", type=int, default=500)
    a = a.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stored = torch.load(a.weights, map_location="cpu")
    shape = SHAPES[stored["shape"]]
    exported = {k: v.bfloat16() for k, v in stored["weights"].items()}
    folder, report = Path(a.out), Path(a.report)
    report.mkdir(parents=True, exist_ok=True)
    write_folder(exported, shape, folder)

    ours = model_with(exported, shape, device)
    theirs, error = check(ours, folder, device)
    windows, size = data.valid_windows(a.cache, 8)
    m = masks(data.CONTEXT, shape.window, device, flex=False)
    quantised = {k: q8_0(v) if v.ndim == 2 else v for k, v in exported.items()}
    numbers = {
        "parameters": sum(v.numel() for v in exported.values()), "held_out_bytes": size,
        "relative_error_against_transformers": error,
        "bits_per_byte_f32": bits_per_byte([model_with(stored["weights"], shape, device)], windows, size, m, device),
        "bits_per_byte_bf16": bits_per_byte([ours], windows, size, m, device),
        "bits_per_byte_q8_0": bits_per_byte([model_with(quantised, shape, device)], windows, size, m, device),
    }
    print(json.dumps(numbers, indent=1), flush=True)
    (report / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
    samples = []
    for kind, prompt, seed in PROMPTS:
        text, ended = generate(theirs, chat.prompt_text(prompt) if kind == "chat" else prompt, seed, a.tokens)
        samples.append({"kind": kind, "prompt": prompt, "seed": seed, **SAMPLING, "text": text, "ended": ended})
        print(f"--- {kind}, seed {seed}: {prompt}\n{text}\n[{'ended' if ended else 'cut'}]", flush=True)
        (report / "samples.json").write_text(json.dumps(samples, indent=1) + "\n")


if __name__ == "__main__":
    main()
