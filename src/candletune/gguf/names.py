"""Hugging Face names and layouts to llama.cpp's.

For its `llama` architecture (and some others) llama.cpp rotates interleaved pairs of a head's rows where Hugging Face
rotates its two halves, so the rows of query and key weights and biases are permuted, and those of a LoRA's B matrix
with them. Qwen's stay as they are.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from candletune.model_shape import ModelShape

if TYPE_CHECKING:
    from torch import Tensor

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Those an adapter can be trained and exported for, by the names that most architectures give them."""
OTHER_LINEAR_LAYERS = ("qkv_proj", "gate_up_proj", "dense", "fc1", "fc2", "c_fc", "c_proj")
"""Those of Phi, Phi-3, GLM-4 and StarCoder2 besides."""


def gguf_name(name: str, shape: ModelShape) -> str | None:
    """llama.cpp's name of a Hugging Face weight (`model.layers.0.self_attn.q_proj.weight`), or None."""
    mapped: str | None = _name_map(shape.architecture.gguf, shape.layers).get_name(
        name, try_suffixes=(".weight", ".bias")
    )
    return mapped


@cache
def _name_map(architecture: str, layers: int) -> Any:
    import gguf

    numbers = {text: number for number, text in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(numbers[architecture], layers)


def permute_rows(matrix: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key matrix (rows, columns) or bias (rows,), each head's halves interleaved."""
    rows = matrix.shape[0]
    return np.ascontiguousarray(
        matrix.reshape(heads, 2, rows // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)
    )


def in_gguf_layout(name: str, matrix: NDArray[Any], shape: ModelShape) -> NDArray[Any]:
    """The matrix with its rows in llama.cpp's order; `name` is the Hugging Face one, of a weight or a module."""
    if not shape.architecture.interleaved:
        return matrix
    if ".q_proj" in name:
        return permute_rows(matrix, shape.heads)
    if ".k_proj" in name:
        return permute_rows(matrix, shape.kv_heads)
    return matrix


def in_transformers_order(name: str, rows: "Tensor", shape: ModelShape) -> "Tensor":
    """What `in_gguf_layout` does, undone: rows of numbers or of blocks; `name` is the Hugging Face module's."""
    if not shape.architecture.interleaved or not name.endswith(("q_proj", "k_proj")):
        return rows
    heads = shape.heads if name.endswith("q_proj") else shape.kv_heads
    half = len(rows) // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape).contiguous()


def module_of(layer: int, name: str) -> str:
    """Hugging Face's name of one of `LINEAR_LAYERS`, such as `model.layers.0.self_attn.q_proj`."""
    part = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    return f"model.layers.{layer}.{part}.{name}"


def expected_sizes(module: str, shape: ModelShape) -> tuple[int, int]:
    """(rows, columns) of a linear layer, by its last name.

    Raises:
        KeyError: not a linear layer of this architecture.
    """
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    widened, narrowed = (shape.feed_forward, shape.hidden), (shape.hidden, shape.feed_forward)
    return {
        "q_proj": (queries, shape.hidden),
        "k_proj": (keys, shape.hidden),
        "v_proj": (keys, shape.hidden),
        "o_proj": (shape.hidden, queries),
        "gate_proj": widened,
        "up_proj": widened,
        "down_proj": narrowed,
        "qkv_proj": (queries + 2 * keys, shape.hidden),
        "gate_up_proj": (2 * shape.feed_forward, shape.hidden),
        "dense": (shape.hidden, queries),
        "fc1": widened,
        "fc2": narrowed,
        "c_fc": widened,
        "c_proj": narrowed,
    }[module]
