#!/usr/bin/env python3
"""Write a base model with the shapes of Ministral-8B and random bf16 weights, one layer in memory at a time.

Speed and memory do not depend on the values, so it stands in for weights that are gated. The tokenizer, when one is
given, is copied from a folder with tokenizer.json. With `--scaled` embeddings have unit variance and the matrices
that write into the residual stream are smaller by the root of twice the layers (Radford et al. 2019, section 2.3): each
layer then changes the stream little, as in a trained model. Without it 36 random layers amplify rounding.

Usage: python bench/random_base.py FOLDER [--tokenizer FOLDER] [--layers 36] [--scaled]
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

HIDDEN, FEED_FORWARD, VOCABULARY, KEYS = 4096, 12288, 131072, 1024
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
    "mlp.up_proj": (FEED_FORWARD, HIDDEN),
    "mlp.down_proj": (HIDDEN, FEED_FORWARD),
}


def configuration(layers: int) -> dict[str, object]:
    """config.json of Ministral-8B-Instruct-2410 with `layers` layers."""
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e8,
        "sliding_window": 32768,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attention_dropout": 0.0,
    }


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--scaled", action="store_true")
    wanted = parser.parse_args()
    folder: Path = wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration(wanted.layers)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    draw = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}

    def normal(rows: int, columns: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(rows, columns, device=device, dtype=torch.bfloat16, generator=draw) * 0.02 * scale).cpu()

    residual = {"self_attn.o_proj", "mlp.down_proj"} if wanted.scaled else set()
    smaller, spread = (2 * wanted.layers) ** -0.5, 50.0 if wanted.scaled else 1.0

    def write(name: str, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(tensors, name))

    ones = torch.ones(HIDDEN, dtype=torch.bfloat16)
    write("model-embedding.safetensors", {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN, scale=spread)})
    write("model-head.safetensors", {"lm_head.weight": normal(VOCABULARY, HIDDEN), "model.norm.weight": ones.clone()})
    for number in range(wanted.layers):
        start = f"model.layers.{number}."
        tensors = {
            f"{start}{name}.weight": normal(*shape, scale=smaller if name in residual else 1.0)
            for name, shape in SHAPES.items()
        }
        tensors[f"{start}input_layernorm.weight"] = ones.clone()
        tensors[f"{start}post_attention_layernorm.weight"] = ones.clone()
        write(f"model-{number:02d}.safetensors", tensors)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in sorted(wanted.tokenizer.glob("*")) if wanted.tokenizer else []:
        if path.is_file():
            shutil.copy(path, folder)


if __name__ == "__main__":
    main()
