"""Read a LoRA GGUF back into the matrices that PyTorch multiplies by."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from candletune.errors import InputError
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from candletune.gguf.header import Header, TensorEntry, read_header
from candletune.gguf.names import LINEAR_LAYERS, expected_sizes, gguf_name, in_transformers_order, module_of
from candletune.gguf.shape import header_shape
from candletune.model_shape import ModelShape
from gguf import GGMLQuantizationType, Keys


@dataclass(frozen=True, slots=True)
class LoraMatrices:
    """One adapted layer: A (rank, inputs) and B (outputs, rank), float32, B's rows in Transformers' order.

    `scale` is what llama.cpp multiplies B A by: alpha over this layer's own rank; without an alpha 1.
    """

    a: Tensor
    b: Tensor
    scale: float


def read_lora(path: Path, base: Header) -> Mapping[str, LoraMatrices]:
    """A LoRA's matrices by the Hugging Face name of the layer that each adapts.

    Args:
        path: the LoRA.
        base: header of the base that it adapts.

    Raises:
        InputError: broken, of other sizes, or it adapts what is no linear layer of a decoder block.
    """
    header, shape = read_header(path), header_shape(base)
    entries = {entry.name: entry for entry in header.tensors}
    alpha = header.fields.get(Keys.Adapter.LORA_ALPHA, 0.0)
    if not isinstance(alpha, int | float):
        raise InputError(f"{path}: {Keys.Adapter.LORA_ALPHA} is {alpha!r}, expected a number; export the adapter again")
    data = np.memmap(path, mode="c", dtype=np.uint8)
    found: dict[str, LoraMatrices] = {}
    for layer in range(shape.layers):
        for name in LINEAR_LAYERS:
            module = module_of(layer, name)
            mapped = gguf_name(f"{module}.weight", shape)
            pair = [entries.pop(f"{mapped}.lora_{suffix}", None) for suffix in "ab"]
            if pair[0] is None or pair[1] is None:  # neither is there: half a pair is refused by `read_header`
                continue
            a, b = (_numbers(header, entry, data) for entry in pair if entry is not None)
            found[module] = _checked(path, module, a, b, alpha=float(alpha), shape=shape)
    if entries:
        raise InputError(f"{path}: {min(entries)} adapts no linear layer of a decoder block")
    return found


def _numbers(header: Header, entry: TensorEntry, data: NDArray[np.uint8]) -> Tensor:
    kind = GGMLQuantizationType(entry.kind)
    if kind not in BLOCK_TYPES or len(entry.sizes) != 2:
        raise InputError(
            f"{header.path}: {entry.name} is a {kind.name} of sizes {entry.sizes}; export the adapter again"
        )
    start = header.data_start + entry.offset
    blocks = torch.from_numpy(data[start : start + entry.nbytes].reshape(entry.sizes[1], -1))
    return dequantize(blocks, kind)


def _checked(path: Path, module: str, a: Tensor, b: Tensor, *, alpha: float, shape: ModelShape) -> LoraMatrices:
    rows, columns = expected_sizes(module.rpartition(".")[2], shape)
    if a.shape[1] != columns or b.shape != (rows, len(a)):
        raise InputError(
            f"{path}: {module} has A {tuple(a.shape)} and B {tuple(b.shape)}, the base wants (rank, {columns}) and "
            f"({rows}, rank); it was trained on another base model"
        )
    return LoraMatrices(a.contiguous(), in_transformers_order(module, b, shape), alpha / len(a) if alpha else 1.0)
