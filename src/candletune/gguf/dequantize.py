"""Expand GGUF blocks to numbers: each type as vectorised torch, bit-equal in float32 to llama.cpp's reference.

A row of a quantized tensor is a sequence of blocks, each a few bytes of scales and packed integers for 32 or 256
weights (ggml-common.h names the fields; ggml-quants.c's `dequantize_row_*` say what they mean). Every function here
takes blocks of shape (n, bytes), uint8, and gives weights of shape (n, weights a block), float32. The order of the
multiplications is the reference's, since float32 products do not associate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch import Tensor

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

Type = GGMLQuantizationType
_CODEBOOK: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The sixteen levels of IQ4_NL and IQ4_XS (`kvalues_iq4nl`)."""


@dataclass(frozen=True, slots=True)
class BlockType:
    """How a type is packed.

    Attributes:
        weights: weights a block.
        bytes: bytes a block.
        expand: blocks (n, bytes) to weights (n, weights), float32.
    """

    weights: int
    bytes: int
    expand: Callable[[Tensor], Tensor]


def dequantize(data: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """Expand rows of blocks.

    Args:
        data: bytes of shape (..., bytes a row), uint8, on any device.
        kind: the tensor's type.

    Returns:
        float32 of shape (..., weights a row), on the same device.

    Raises:
        KeyError: the type is none of `BLOCK_TYPES`.
    """
    block = BLOCK_TYPES[kind]
    rows = data.shape[:-1]
    return block.expand(data.reshape(-1, block.bytes)).reshape(*rows, -1)


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at a byte offset of each block, as float32 of shape (n, 1)."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _fields(packed: Tensor, bits: int) -> Tensor:
    """Split bytes (n, groups, width) into their fields, lowest bits first: (n, groups, 8 / bits, width), uint8."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-2) >> shifts[:, None]) & ((1 << bits) - 1)


def _nibbles(blocks: Tensor, start: int) -> Tensor:
    """The 32 four-bit integers of 16 bytes, low halves first: (n, 32), uint8."""
    return _fields(blocks[:, None, start : start + 16], 4).reshape(len(blocks), 32)


def _fifth_bits(blocks: Tensor, start: int) -> Tensor:
    """Bit 4 of 32 integers, from 32 bits in little-endian order: (n, 32), uint8, 0 or 16."""
    bits = _fields(blocks[:, start : start + 4, None], 1)
    return bits.reshape(len(blocks), 32) << 4


def _f32(blocks: Tensor) -> Tensor:
    return blocks.contiguous().view(torch.float32)


def _f16(blocks: Tensor) -> Tensor:
    return blocks.contiguous().view(torch.float16).float()


def _bf16(blocks: Tensor) -> Tensor:
    return blocks.contiguous().view(torch.bfloat16).float()


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks, 0)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks, 2).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks, 4).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * ((_nibbles(blocks, 6) | _fifth_bits(blocks, 2)).float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks, 8) | _fifth_bits(blocks, 4)).float() + _half(blocks, 2)


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _levels(_nibbles(blocks, 2))


def _levels(codes: Tensor) -> Tensor:
    return _codebook(codes.device)[codes.int()]


@cache
def _codebook(device: torch.device) -> Tensor:
    """Kept, since a CUDA graph cannot copy from the host."""
    return torch.tensor(_CODEBOOK, dtype=torch.float32, device=device)


def _q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, :16]
    scale = (_half(blocks, 80) * (scales & 15).float())[..., None]
    least = (_half(blocks, 82) * (scales >> 4).float())[..., None]
    codes = _fields(blocks[:, 16:80].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    return (scale * codes.float() - least).reshape(-1, 256)


def _q3_k(blocks: Tensor) -> Tensor:
    low = _fields(blocks[:, None, 96:104], 4).reshape(-1, 16)
    high = _fields(blocks[:, None, 104:108], 2).reshape(-1, 16)
    scale = (_half(blocks, 108) * ((low | (high << 4)).float() - 32))[..., None]
    codes = _fields(blocks[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 16, 16).float()
    kept = _fields(blocks[:, None, :32], 1).reshape(-1, 16, 16).float()  # a cleared bit subtracts four
    return (scale * (codes - 4 * (1 - kept))).reshape(-1, 256)


def _six_bit_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minima (n, 8) of Q4_K and Q5_K, six bits each in twelve bytes."""
    first, second, third = packed.split(4, dim=-1)
    scale = torch.cat([first & 63, (third & 15) | ((first >> 2) & 48)], dim=-1)
    least = torch.cat([second & 63, (third >> 4) | ((second >> 2) & 48)], dim=-1)
    return scale.float(), least.float()


def _scaled(blocks: Tensor, codes: Tensor) -> Tensor:
    """Q4_K's and Q5_K's codes (n, 8, 32) times the scale less the minimum of their group of 32."""
    scale, least = _six_bit_scales(blocks[:, 4:16])
    scale = (_half(blocks, 0) * scale)[..., None]
    least = (_half(blocks, 2) * least)[..., None]
    return (scale * codes.float() - least).reshape(-1, 256)


def _q4_k(blocks: Tensor) -> Tensor:
    return _scaled(blocks, _fields(blocks[:, 16:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    low = _fields(blocks[:, 48:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    high = _fields(blocks[:, None, 16:48], 1).reshape(-1, 8, 32)
    return _scaled(blocks, low | (high << 4))


def _q6_k(blocks: Tensor) -> Tensor:
    scale = blocks[:, 192:208].contiguous().view(torch.int8).float()
    scale = (_half(blocks, 208) * scale)[..., None]
    low = _fields(blocks[:, :128].reshape(-1, 2, 64), 4).reshape(-1, 8, 32)
    high = _fields(blocks[:, 128:192].reshape(-1, 2, 32), 2).reshape(-1, 8, 32)
    codes = (low | (high << 4)).float() - 32
    return (scale * codes.reshape(-1, 16, 16)).reshape(-1, 256)


def _iq4_xs(blocks: Tensor) -> Tensor:
    low = _fields(blocks[:, 4:8, None], 4).reshape(-1, 8)
    high = _fields(blocks[:, 2:4, None], 2).reshape(-1, 8)
    scale = (_half(blocks, 0) * ((low | (high << 4)).float() - 32))[..., None]
    codes = _fields(blocks[:, 8:].reshape(-1, 8, 16), 4).reshape(-1, 8, 32)
    return (scale * _levels(codes)).reshape(-1, 256)


_EXPAND: Final[dict[GGMLQuantizationType, Callable[[Tensor], Tensor]]] = {
    Type.F32: _f32,
    Type.F16: _f16,
    Type.BF16: _bf16,
    Type.Q8_0: _q8_0,
    Type.Q4_0: _q4_0,
    Type.Q4_1: _q4_1,
    Type.Q5_0: _q5_0,
    Type.Q5_1: _q5_1,
    Type.Q2_K: _q2_k,
    Type.Q3_K: _q3_k,
    Type.Q4_K: _q4_k,
    Type.Q5_K: _q5_k,
    Type.Q6_K: _q6_k,
    Type.IQ4_NL: _iq4_nl,
    Type.IQ4_XS: _iq4_xs,
}
BLOCK_TYPES: Final = {kind: BlockType(*GGML_QUANT_SIZES[kind], expand) for kind, expand in _EXPAND.items()}
"""Every type that can be trained over."""
