#!/usr/bin/env python3
"""Write a base GGUF with the shapes of Ministral-8B and random blocks in llama.cpp's Q4_K_M mixture: 4.6 GiB.

Speed and memory do not depend on the values, so it stands in for weights that are gated: no file has to travel to a
rented GPU. The scales are numbers of the size that gives weights a spread of about 0.02. With the tokenizer of another
GGUF (padded with unused tokens to Ministral's 131,072) it can be served; without, it can be trained over tokens from
elsewhere. One tensor is in memory at a time. With `--adapter` a LoRA of random weights for it is written too: rank 8 on
q and v, alpha 16.

Usage: python bench/random_blocks.py FILE.gguf [--layers 36] [--tokenizer OTHER.gguf] [--adapter LORA.gguf --seed 0]
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gguf
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from random_base import FEED_FORWARD, HIDDEN, KEYS, SHAPES, VOCABULARY

Type = GGMLQuantizationType
SCALES = {
    Type.Q8_0: {0: 2.7e-4},
    Type.Q4_0: {0: 4.3e-3},
    Type.Q4_1: {0: 4.3e-3, 2: -3.3e-2},
    Type.Q5_0: {0: 2.2e-3},
    Type.Q5_1: {0: 2.2e-3, 2: -3.4e-2},
    Type.Q2_K: {80: 2e-3, 82: 3e-3},
    Type.Q3_K: {108: 4.8e-4},
    Type.Q4_K: {0: 1.2e-4, 2: 9e-4},
    Type.Q5_K: {0: 6e-5, 2: 9.3e-4},
    Type.Q6_K: {208: 1.5e-5},
    Type.IQ4_NL: {0: 3e-4},
    Type.IQ4_XS: {0: 1.7e-5},
}
"""Byte offsets of each block's float16 scales, and their mean."""
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def random_blocks(kind: GGMLQuantizationType, rows: int, columns: int, draw: torch.Generator) -> Tensor:
    """Blocks of random weights, (rows, bytes a row), uint8, on the generator's device."""
    weights, size = GGML_QUANT_SIZES[kind]
    count = rows * columns // weights
    blocks = torch.randint(0, 256, (count, size), dtype=torch.uint8, device=draw.device, generator=draw)
    for offset, mean in SCALES[kind].items():
        scales = (0.5 + torch.rand(count, 1, device=draw.device, generator=draw)) * mean
        blocks[:, offset : offset + 2] = scales.half().view(torch.uint8)
    return blocks.view(rows, -1)


def has_more_bits(layer: int, layers: int) -> bool:
    """Whether Q4_K_M gives a layer's attn_v and ffn_down six bits (llama.cpp's `use_more_bits`)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def matrices(layers: int) -> Iterator[tuple[str, GGMLQuantizationType, int, int]]:
    """Name, type, rows and columns of every matrix of the mixture."""
    yield "token_embd.weight", Type.Q4_K, VOCABULARY, HIDDEN
    yield "output.weight", Type.Q6_K, VOCABULARY, HIDDEN
    for layer in range(layers):
        for name, (rows, columns) in SHAPES.items():
            wide = name in ("self_attn.v_proj", "mlp.down_proj") and has_more_bits(layer, layers)
            yield f"blk.{layer}.{NAMES[name]}.weight", Type.Q6_K if wide else Type.Q4_K, rows, columns


def norms(layers: int) -> list[str]:
    """Names of the norms' weights."""
    parts = ("attn_norm", "ffn_norm")
    return ["output_norm.weight", *(f"blk.{layer}.{part}.weight" for layer in range(layers) for part in parts)]


def add_tokenizer(writer: Any, source: Path) -> None:
    """Copy another file's tokenizer and chat template, padded to the vocabulary."""
    for name, field in gguf.GGUFReader(source).fields.items():
        if not name.startswith("tokenizer."):
            continue
        value = field.contents()
        if name == "tokenizer.ggml.tokens":
            value = [*value, *(f"<unused_{number}>" for number in range(len(value), VOCABULARY))]
        elif name == "tokenizer.ggml.token_type":
            value = [*value, *[int(gguf.TokenType.UNUSED)] * (VOCABULARY - len(value))]
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)


def write(path: Path, layers: int, tokenizer: Path | None = None) -> None:
    """Write the file, a tensor at a time."""
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32768)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(32)
    writer.add_head_count_kv(KEYS // 128)
    writer.add_key_length(128)
    writer.add_value_length(128)
    writer.add_rope_dimension_count(128)
    writer.add_rope_freq_base(1e8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer)
    for name, kind, rows, columns in matrices(layers):
        weights, size = GGML_QUANT_SIZES[kind]
        row = columns // weights * size
        writer.add_tensor_info(name, (rows, row), np.dtype(np.uint8), rows * row, raw_dtype=kind)
    for name in norms(layers):
        writer.add_tensor_info(name, (HIDDEN,), np.dtype(np.float32), HIDDEN * 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    draw = torch.Generator("cuda" if torch.cuda.is_available() else "cpu").manual_seed(0)
    for _, kind, rows, columns in matrices(layers):
        writer.write_tensor_data(random_blocks(kind, rows, columns, draw).cpu().numpy())
    for _ in norms(layers):
        writer.write_tensor_data(np.ones(HIDDEN, dtype=np.float32))
    writer.close()


def write_adapter(path: Path, layers: int, seed: int) -> None:
    """A LoRA GGUF as llama.cpp's converter names it, of small random weights."""
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    draw = np.random.default_rng(seed)
    for layer in range(layers):
        for name in ("self_attn.q_proj", "self_attn.v_proj"):
            rows, columns = SHAPES[name]
            for part, shape in (("lora_a", (8, columns)), ("lora_b", (rows, 8))):
                values = draw.normal(0, 0.01, shape).astype(np.float32)
                writer.add_tensor(f"blk.{layer}.{NAMES[name]}.weight.{part}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--tokenizer", type=Path, help="GGUF whose tokenizer is copied")
    parser.add_argument("--adapter", type=Path, help="LoRA of random weights, written too")
    parser.add_argument("--seed", type=int, default=0, help="of the LoRA")
    wanted = parser.parse_args()
    if wanted.adapter:
        write_adapter(wanted.adapter, wanted.layers, wanted.seed)
        if wanted.file.exists():
            return
    began = time.perf_counter()
    write(wanted.file, wanted.layers, wanted.tokenizer)
    size = wanted.file.stat().st_size / 2**30
    print(f"{wanted.file}: {size:.2f} GiB in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
