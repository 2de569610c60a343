# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Triton kernels that expand GGUF blocks: one launch a matrix, each byte read and each number written once.

Every kernel equals the function of the same name in `dequantize`: the float32 numbers bit for bit, other types as their
rounding (`tests/gguf/test_block_kernels.py`, which compiles them for Ampere and Hopper too). For that no product may be
fused with the sum behind it (`OPTIONS`).

A thread expands one octet: eight weights in a row, whose packed integers lie in eight bytes in a row. It reads those
bytes as one integer, as wide as the block's size lets an address be aligned (2, 4 or 8 bytes), shifts and masks all
eight at once, and writes its eight numbers side by side. Octets of a block read the same scales from the cache.
"""

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from candletune.gguf.dequantize import BLOCK_TYPES
from gguf import GGMLQuantizationType

Type = GGMLQuantizationType
OCTETS: Final = 128
"""Octets a program: one a thread of its warps, so that a thread needs no other's registers."""
OPTIONS: Final = {"num_warps": 4, "enable_fp_fusion": False}
"""How every kernel is compiled."""
_PLAIN: Final = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}
"""Types that are numbers already: copied, which casts."""


@triton.jit
def _octets(data, target, count, BYTES: tl.constexpr, EACH: tl.constexpr, OCTETS: tl.constexpr):
    """Octets of this program: address of each one's block, its number in the block, and where its numbers go.

    Behind the last block the last one is expanded again, and the same numbers are written again.
    """
    first = tl.program_id(0).to(tl.int64) * (OCTETS // EACH)
    octet = tl.arange(0, OCTETS)
    block = tl.minimum(octet // EACH, (count - 1 - first).to(tl.int32))
    part = octet % EACH
    return data + first * BYTES + block * BYTES, part, target + first * (EACH * 8) + (block * EACH + part) * 8


@triton.jit
def _half(at):
    """The float16 at an address, as float32."""
    return tl.load(at.to(tl.pointer_type(tl.float16))).to(tl.float32)


@triton.jit
def _eight(at, ALIGN: tl.constexpr):
    """Eight bytes as one integer, the first byte lowest, from an address that is a multiple of ALIGN."""
    if ALIGN == 8:
        return tl.load(at.to(tl.pointer_type(tl.uint64)))
    elif ALIGN == 4:
        words = at.to(tl.pointer_type(tl.uint32))
        return tl.load(words).to(tl.uint64) | tl.load(words + 1).to(tl.uint64) << 32
    else:
        pairs = at.to(tl.pointer_type(tl.uint16))
        low = tl.load(pairs).to(tl.uint32) | tl.load(pairs + 1).to(tl.uint32) << 16
        high = tl.load(pairs + 2).to(tl.uint32) | tl.load(pairs + 3).to(tl.uint32) << 16
        return low.to(tl.uint64) | high.to(tl.uint64) << 32


@triton.jit
def _fields(at, shift, BITS: tl.constexpr, ALIGN: tl.constexpr):
    """A field of BITS bits of eight bytes each, still a byte apart."""
    ONES: tl.constexpr = 0x0101010101010101
    return (_eight(at, ALIGN) >> shift.to(tl.uint64)) & (ONES * ((1 << BITS) - 1))


@triton.jit
def _split(word):
    """The eight bytes of an integer side by side, 32 bits each: what is converted to float32 fastest."""
    return (word[:, None] >> (tl.arange(0, 8)[None] * 8).to(tl.uint64)).to(tl.int32) & 255


@triton.jit
def _fifth_bits(at):
    """Bit 4 of eight integers, from the bits of one byte."""
    return (tl.load(at).to(tl.int32)[:, None] >> tl.arange(0, 8)[None] & 1) << 4


@triton.jit
def _levels(codes):
    """IQ4_NL's sixteen levels, a byte each: `dequantize._CODEBOOK`."""
    LOW: tl.constexpr = 0xF6EADDCFBFAD9881
    HIGH: tl.constexpr = 0x7159453526190D01
    levels = tl.where(codes < 8, tl.full((1, 1), LOW, tl.uint64), tl.full((1, 1), HIGH, tl.uint64))
    return (levels >> ((codes & 7) * 8).to(tl.uint64)).to(tl.int8).to(tl.float32)


@triton.jit
def _write(target, numbers):
    """Write eight numbers an octet in the target's type."""
    tl.store(target[:, None] + tl.arange(0, 8)[None], numbers.to(target.dtype.element_ty))


@triton.jit(do_not_specialize=["count"])
def _q8_0(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 34, 4, OCTETS)
    codes = _split(_eight(at + 2 + part * 8, 2)).to(tl.int8)
    _write(out, codes.to(tl.float32) * _half(at)[:, None])


@triton.jit(do_not_specialize=["count"])
def _q4_0(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 18, 4, OCTETS)
    codes = _split(_fields(at + 2 + part % 2 * 8, part // 2 * 4, 4, 2))
    _write(out, _half(at)[:, None] * (codes.to(tl.float32) - 8))


@triton.jit(do_not_specialize=["count"])
def _q4_1(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 20, 4, OCTETS)
    codes = _split(_fields(at + 4 + part % 2 * 8, part // 2 * 4, 4, 4))
    _write(out, _half(at)[:, None] * codes.to(tl.float32) + _half(at + 2)[:, None])


@triton.jit(do_not_specialize=["count"])
def _q5_0(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 22, 4, OCTETS)
    codes = _split(_fields(at + 6 + part % 2 * 8, part // 2 * 4, 4, 2)) | _fifth_bits(at + 2 + part)
    _write(out, _half(at)[:, None] * (codes.to(tl.float32) - 16))


@triton.jit(do_not_specialize=["count"])
def _q5_1(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 24, 4, OCTETS)
    codes = _split(_fields(at + 8 + part % 2 * 8, part // 2 * 4, 4, 8)) | _fifth_bits(at + 4 + part)
    _write(out, _half(at)[:, None] * codes.to(tl.float32) + _half(at + 2)[:, None])


@triton.jit(do_not_specialize=["count"])
def _iq4_nl(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 18, 4, OCTETS)
    codes = _split(_fields(at + 2 + part % 2 * 8, part // 2 * 4, 4, 2))
    _write(out, _half(at)[:, None] * _levels(codes))


@triton.jit(do_not_specialize=["count"])
def _q2_k(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 84, 32, OCTETS)
    packed = tl.load(at + part // 2)
    scale = _half(at + 80) * (packed & 15).to(tl.float32)
    least = _half(at + 82) * (packed >> 4).to(tl.float32)
    codes = _split(_fields(at + 16 + part // 16 * 32 + part % 4 * 8, part % 16 // 4 * 2, 2, 4))
    _write(out, scale[:, None] * codes.to(tl.float32) - least[:, None])


@triton.jit(do_not_specialize=["count"])
def _q3_k(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 110, 32, OCTETS)
    group = part // 2
    low = tl.load(at + 96 + group % 8).to(tl.int32) >> group // 8 * 4 & 15
    high = tl.load(at + 104 + group % 4).to(tl.int32) >> group // 4 * 2 & 3
    scale = _half(at + 108) * ((low | high << 4) - 32).to(tl.float32)
    codes = _fields(at + 32 + part // 16 * 32 + part % 4 * 8, part % 16 // 4 * 2, 2, 2)
    kept = _fields(at + part % 4 * 8, part // 4, 1, 2)  # a cleared bit subtracts four
    _write(out, scale[:, None] * (_split(codes | kept << 2).to(tl.float32) - 4))


@triton.jit
def _scales(at, group):
    """Scale and minimum of a group of 32 of Q4_K and Q5_K, six bits each in twelve bytes behind both halves."""
    first = tl.load(at + 4 + group % 4).to(tl.int32)
    second = tl.load(at + 8 + group % 4).to(tl.int32)
    third = tl.load(at + 12 + group % 4).to(tl.int32)
    scale = tl.where(group < 4, first & 63, third & 15 | first >> 2 & 48)
    least = tl.where(group < 4, second & 63, third >> 4 | second >> 2 & 48)
    return _half(at) * scale.to(tl.float32), _half(at + 2) * least.to(tl.float32)


@triton.jit(do_not_specialize=["count"])
def _q4_k(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 144, 32, OCTETS)
    scale, least = _scales(at, part // 4)
    codes = _split(_fields(at + 16 + part // 8 * 32 + part % 4 * 8, part // 4 % 2 * 4, 4, 8))
    _write(out, scale[:, None] * codes.to(tl.float32) - least[:, None])


@triton.jit(do_not_specialize=["count"])
def _q5_k(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 176, 32, OCTETS)
    scale, least = _scales(at, part // 4)
    low = _fields(at + 48 + part // 8 * 32 + part % 4 * 8, part // 4 % 2 * 4, 4, 8)
    high = _fields(at + 16 + part % 4 * 8, part // 4, 1, 8)
    _write(out, scale[:, None] * _split(low | high << 4).to(tl.float32) - least[:, None])


@triton.jit(do_not_specialize=["count"])
def _q6_k(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 210, 32, OCTETS)
    half, quarter, column = part // 16, part % 16 // 4, part % 4 * 8
    scale = _half(at + 208) * tl.load(at + 192 + part // 2).to(tl.int8, bitcast=True).to(tl.float32)
    low = _fields(at + half * 64 + quarter % 2 * 32 + column, quarter // 2 * 4, 4, 2)
    high = _fields(at + 128 + half * 32 + column, quarter * 2, 2, 2)
    _write(out, scale[:, None] * (_split(low | high << 4).to(tl.float32) - 32))


@triton.jit(do_not_specialize=["count"])
def _iq4_xs(data, target, count, OCTETS: tl.constexpr):
    at, part, out = _octets(data, target, count, 136, 32, OCTETS)
    group = part // 4
    low = tl.load(at + 4 + group // 2).to(tl.int32) >> group % 2 * 4 & 15
    high = tl.load(at + 2 + group // 4).to(tl.int32) >> group % 4 * 2 & 3
    scale = _half(at) * ((low | high << 4) - 32).to(tl.float32)
    codes = _split(_fields(at + 8 + group * 16 + part % 2 * 8, part // 2 % 2 * 4, 4, 8))
    _write(out, scale[:, None] * _levels(codes))


KERNELS: Final[dict[GGMLQuantizationType, Any]] = {
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
"""A kernel for each type of `BLOCK_TYPES` that is packed."""


def expand_into(target: Tensor, blocks: Tensor, kind: GGMLQuantizationType) -> None:
    """Expand blocks into a matrix that lies there already; nothing else is allocated.

    Args:
        target: (rows, columns), contiguous, float32, float16 or bfloat16, on the device of the blocks.
        blocks: (rows, bytes a row), uint8, contiguous; the first byte's address is a multiple of the largest power of
            two, up to 8, that divides a block's bytes.
        kind: the blocks' type.
    """
    if kind in _PLAIN:
        target.copy_(blocks.view(_PLAIN[kind]))
        return
    count = blocks.numel() // BLOCK_TYPES[kind].bytes
    grid = (triton.cdiv(count * BLOCK_TYPES[kind].weights, 8 * OCTETS),)
    KERNELS[kind][grid](blocks, target, count, OCTETS=OCTETS, **OPTIONS)
