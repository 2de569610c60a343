"""Layers whose frozen weights stay the packed blocks of a GGUF: what trains is what llama.cpp serves.

A layer expands its blocks when it is used and forgets the numbers at once, in the backward pass too, so a model takes
the memory of its file plus one expanded matrix.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from gguf import GGMLQuantizationType

EXPANDED_AT_ONCE = 2**24
"""Weights whose float32 numbers lie in memory at a time, a step on the way to the compute type."""


Expand = Callable[[Tensor, Tensor, GGMLQuantizationType], None]
"""Fills a matrix (rows, columns) with the numbers of blocks (rows, bytes)."""


def expand_into(target: Tensor, blocks: Tensor, kind: GGMLQuantizationType) -> None:
    """Expand blocks (rows, bytes) into a matrix (rows, columns) of any type: in one kernel on a card, else in parts."""
    kernel, _ = block_kernels(target.device.type)
    aligned = blocks.data_ptr() % math.gcd(BLOCK_TYPES[kind].bytes, 8) == 0  # so are all rows of a matrix that is
    if kernel is not None and aligned and target.is_contiguous() and blocks.is_contiguous():
        kernel(target, blocks, kind)
        return
    step = max(1, EXPANDED_AT_ONCE // target.shape[1])
    for start in range(0, len(target), step):
        target[start : start + step].copy_(dequantize(blocks[start : start + step], kind))


def expanded(blocks: Tensor, kind: GGMLQuantizationType, columns: int, dtype: torch.dtype) -> Tensor:
    """The numbers of blocks (rows, bytes) as a matrix (rows, columns)."""
    numbers = torch.empty(len(blocks), columns, dtype=dtype, device=blocks.device)
    expand_into(numbers, blocks, kind)
    return numbers


@cache
def block_kernels(device_type: str) -> tuple[Expand | None, str | None]:
    """The Triton kernels on a CUDA device where Triton works (it needs a C compiler too).

    Returns:
        The kernels or None, and why there are none on a CUDA device, which should have them.
    """
    if device_type != "cuda":
        return None, None
    try:
        from candletune.gguf import block_kernels as kernels

        blocks = torch.zeros(1, 18, dtype=torch.uint8, device=device_type)
        kernels.expand_into(torch.empty(1, 32, device=device_type), blocks, GGMLQuantizationType.Q4_0)
    except Exception as error:  # whatever stops Triton, the plain functions are right
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return kernels.expand_into, None


class PackedLinear(nn.Linear):
    """A linear layer without trainable weights; PEFT adapts it as any `nn.Linear`.

    Attributes:
        weight: blocks of shape (outputs, bytes a row), uint8.
        kind: the blocks' type.
    """

    weight: Tensor

    def __init__(self, blocks: Tensor, kind: GGMLQuantizationType, inputs: int, bias: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, len(blocks)
        self.kind = kind
        self.register_buffer("weight", blocks, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def expanded(self, dtype: torch.dtype) -> Tensor:
        """The weights as numbers: (outputs, inputs)."""
        return expanded(self.weight, self.kind, self.in_features, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        product: Tensor = _Product.apply(input, self)
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind.name}"


class _Product(torch.autograd.Function):
    """`input @ weight.T`, with the weights expanded anew for the gradient instead of kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, input: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer  # type: ignore[attr-defined]
        return nn.functional.linear(input, layer.expanded(input.dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> tuple[Tensor, None]:
        (grad,) = grads
        layer: PackedLinear = ctx.layer  # type: ignore[attr-defined]
        return grad @ layer.expanded(grad.dtype), None


class PackedEmbedding(nn.Embedding):
    """An embedding that expands the rows it is asked for.

    Attributes:
        weight: blocks of shape (tokens, bytes a row), uint8.
        kind: the blocks' type.
        dtype: of what it gives.
    """

    weight: Tensor

    def __init__(self, blocks: Tensor, kind: GGMLQuantizationType, width: int, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = len(blocks), width
        self.kind, self.dtype = kind, dtype
        self.register_buffer("weight", blocks, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Ids (...) -> vectors (..., width)."""
        rows = self.weight[input.flatten()]
        return expanded(rows, self.kind, self.embedding_dim, self.dtype).view(*input.shape, -1)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"{self.num_embeddings}, {self.embedding_dim}, kind={self.kind.name}"
