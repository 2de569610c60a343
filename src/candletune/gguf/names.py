"""Hugging Face names and layouts to llama.cpp's, for Llama and Mistral models.

llama.cpp rotates interleaved pairs of a head's rows where Hugging Face rotates its two halves, so the rows of query
and key weights are permuted (and those of a LoRA's B matrix with them).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.errors import InputError
from candletune.files import read_json

ARCHITECTURES = ("MistralForCausalLM", "LlamaForCausalLM")
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama-type model, from its config.json."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rms_epsilon: float
    rope_base: float
    sliding_window: int | None
    tied: bool


def read_shape(base: Path) -> Shape:
    """The sizes of the base model in a Hugging Face folder.

    Raises:
        InputError: no config.json, another architecture, or a size missing or impossible.
    """
    path = base / "config.json"
    config: dict[str, Any] = read_json(path)
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise InputError(f"{path}: architecture {architecture} cannot be exported; use {' or '.join(ARCHITECTURES)}")
    for key in _SIZES:
        if not isinstance(config.get(key), int) or not 0 < config[key] < 2**24:
            raise InputError(f"{path}: {key} is {config.get(key)!r}, expected a positive integer")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise InputError(f"{path}: rope scaling {rope.get('rope_type')} cannot be exported; use llama.cpp's converter")
    heads = config["num_attention_heads"]
    return Shape(
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        context=config.get("max_position_embeddings") or 4096,
        rms_epsilon=float(config.get("rms_norm_eps") or 1e-5),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        sliding_window=config.get("sliding_window"),
        tied=bool(config.get("tie_word_embeddings")),
    )


def gguf_name(name: str, layers: int) -> str | None:
    """llama.cpp's name of a Hugging Face weight (`model.layers.0.self_attn.q_proj.weight`), or None."""
    import gguf

    found: str | None = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers).get_name(
        name, try_suffixes=(".weight", ".bias")
    )
    return found


def permute_rows(matrix: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key matrix (rows, columns), each head's halves interleaved."""
    rows = matrix.shape[0]
    return np.ascontiguousarray(
        matrix.reshape(heads, 2, rows // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)
    )


def in_gguf_layout(name: str, matrix: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """The matrix with its rows in llama.cpp's order; `name` is the Hugging Face one, of a weight or a module."""
    if ".q_proj" in name:
        return permute_rows(matrix, shape.heads)
    if ".k_proj" in name:
        return permute_rows(matrix, shape.kv_heads)
    return matrix


def expected_sizes(module: str, shape: Shape) -> tuple[int, int]:
    """(rows, columns) of a linear layer, by its last name.

    Raises:
        KeyError: not a linear layer of this architecture.
    """
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    return {
        "q_proj": (queries, shape.hidden),
        "k_proj": (keys, shape.hidden),
        "v_proj": (keys, shape.hidden),
        "o_proj": (shape.hidden, queries),
        "gate_proj": (shape.feed_forward, shape.hidden),
        "up_proj": (shape.feed_forward, shape.hidden),
        "down_proj": (shape.hidden, shape.feed_forward),
    }[module]
