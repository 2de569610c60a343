"""Rotary embedding as a GGUF says it: what llama.cpp's writer of a base must carry beside the weights."""

import math
from typing import TYPE_CHECKING

from candletune.model_shape import ModelShape

if TYPE_CHECKING:
    from torch import Tensor

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor that divides llama.cpp's rotary frequencies."""


def rope_refusal(shape: ModelShape) -> str | None:
    """Why a base's rotary embedding cannot be written, or None."""
    if shape.rope.partial:
        return "rotates a part of each head only"
    if shape.rope.kind == "llama3" and shape.architecture.gguf != "llama":
        return f"has Llama 3.1's rope scaling, which llama.cpp's {shape.architecture.gguf} does not know"
    if shape.rope.kind not in ("default", "llama3"):
        return f"has rope scaling {shape.rope.kind}"
    return None


def rope_factors(shape: ModelShape) -> "Tensor | None":
    """Llama 3.1's divisors of the rotary frequencies, (head size / 2,) float32; None without its scaling.

    Frequencies whose wave is short against the original context stay, long ones are divided by the factor, and those
    between are interpolated (Llama Team, "The Llama 3 Herd of Models", 2024; Transformers' `rope_type` `llama3`).
    Computed in the order of llama.cpp's converter, so that every bit is its.
    """
    import torch

    if shape.rope.kind != "llama3":
        return None
    factor, low, high, context = shape.rope.values
    frequencies = 1.0 / (
        shape.rope_base ** (torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size)
    )
    factors: list[float | torch.Tensor] = []
    for frequency in frequencies:
        wave = 2 * math.pi / frequency
        if wave < context / high:
            factors.append(1.0)
        elif wave > context / low:
            factors.append(factor)
        else:
            smooth = (context / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float32)
