# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Triton kernels of the fast path's elementwise arithmetic: each reads and writes its tensors once.

torch.compile's versions of the same functions took two to five times as long (concatenations became masked loads,
and a batch's changing length became a division for each element).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 1024


@triton.jit
def _norm(source, weight, target, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    real = place < width
    wide = tl.load(source + row * width + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    unit = (wide * scale).to(target.dtype.element_ty).to(tl.float32)
    factor = tl.load(weight + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, unit * factor, mask=real)


@triton.jit
def _norm_backward(grad, source, weight, residual, target, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    real = place < width
    wide = tl.load(source + row * width + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    unit = wide * scale
    pulled = tl.load(grad + row * width + place, mask=real, other=0.0).to(tl.float32)
    pulled *= tl.load(weight + place, mask=real, other=0.0).to(tl.float32)
    inner = scale * (pulled - unit * (tl.sum(pulled * unit, axis=0) / width))
    inner += tl.load(residual + row * width + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, inner, mask=real)


@triton.jit
def _gate(both, target, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < width
    first = tl.load(both + row * 2 * width + place, mask=real, other=0.0).to(tl.float32)
    second = tl.load(both + row * 2 * width + width + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, first * tl.sigmoid(first) * second, mask=real)


@triton.jit
def _gate_backward(grad, both, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < width
    first = tl.load(both + row * 2 * width + place, mask=real, other=0.0).to(tl.float32)
    second = tl.load(both + row * 2 * width + width + place, mask=real, other=0.0).to(tl.float32)
    wide = tl.load(grad + row * width + place, mask=real, other=0.0).to(tl.float32)
    share = tl.sigmoid(first)
    tl.store(both + row * 2 * width + place, wide * second * share * (1 + first * (1 - share)), mask=real)
    tl.store(both + row * 2 * width + width + place, wide * first * share, mask=real)


@triton.jit
def _turn(
    flat,
    queries,
    keys,
    values,
    cos,
    sin,
    stride,
    heads,
    kv_heads,
    HALF: tl.constexpr,
    GROUP: tl.constexpr,
    JOIN: tl.constexpr,
):
    """One token, GROUP heads: between the flat (queries, keys, values) row and rotated separate tensors, or back."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * GROUP
    lane = tl.arange(0, GROUP)[:, None] * (2 * HALF) + tl.arange(0, HALF)[None]
    flat += row * stride + head * (2 * HALF)
    if head < heads:
        split = queries + (row * heads + head) * (2 * HALF)
    elif head < heads + kv_heads:
        split = keys + (row * kv_heads + head - heads) * (2 * HALF)
    else:
        split = values + (row * kv_heads + head - heads - kv_heads) * (2 * HALF)
    if JOIN:
        first = tl.load(split + lane).to(tl.float32)
        second = tl.load(split + lane + HALF).to(tl.float32)
    else:
        first = tl.load(flat + lane).to(tl.float32)
        second = tl.load(flat + lane + HALF).to(tl.float32)
    if head < heads + kv_heads:
        table = row * (2 * HALF) + tl.arange(0, HALF)[None]
        c = tl.load(cos + table).to(tl.float32)
        s = tl.load(sin + table).to(tl.float32)
        if JOIN:
            s = -s
        turned = first * c - second * s
        second = second * c + first * s
        first = turned
    if JOIN:
        tl.store(flat + lane, first)
        tl.store(flat + lane + HALF, second)
    else:
        tl.store(split + lane, first)
        tl.store(split + lane + HALF, second)


@triton.jit
def _drop(
    source,
    total,
    target,
    seed,
    width,
    start,
    rate,
    factor,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
):
    row = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < width
    bits = ((row + start) * width + place) * -1640531527 ^ tl.load(seed)
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * -2048144789
    bits = (bits ^ (bits >> 13 & 0x7FFFF)) * -1028477387
    bits = bits ^ (bits >> 16 & 0xFFFF)
    kept = (bits & 0x7FFFFFFF).to(tl.float32) * 4.656612873077393e-10 >= rate
    spot = row.to(tl.int64) * width + place
    value = tl.load(source + spot, mask=real, other=0.0).to(tl.float32)
    value = tl.where(kept, value * factor, 0.0)
    if ADD:
        value += tl.load(total + spot, mask=real, other=0.0).to(tl.float32)
    tl.store(target + spot, value, mask=real)


def norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See fast_ops.norm."""
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    _norm[(len(hidden),)](hidden, weight, out, width, eps, BLOCK=triton.next_power_of_2(width), num_warps=8)
    return out


def norm_backward(grad: Tensor, hidden: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """See fast_ops.norm_backward."""
    grad, hidden, residual = grad.contiguous(), hidden.contiguous(), residual.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    block = triton.next_power_of_2(width)
    _norm_backward[(len(hidden),)](grad, hidden, weight, residual, out, width, eps, BLOCK=block, num_warps=8)
    return out


def gate(both: Tensor) -> Tensor:
    """See fast_ops.gate."""
    width = both.shape[1] // 2
    out = both.new_empty(len(both), width)
    _gate[(len(both), triton.cdiv(width, _COLUMNS))](both.contiguous(), out, width, BLOCK=_COLUMNS)
    return out


def gate_backward(grad: Tensor, both: Tensor) -> Tensor:
    """See fast_ops.gate_backward; the gradient takes the place of `both`."""
    width = grad.shape[1]
    _gate_backward[(len(both), triton.cdiv(width, _COLUMNS))](grad.contiguous(), both, width, BLOCK=_COLUMNS)
    return both


def split_turned(flat: Tensor, heads: int, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See fast_ops.split_turned."""
    width = flat.shape[1] // (heads + 2 * kv_heads)
    parts = [flat.new_empty(len(flat), count, width) for count in (heads, kv_heads, kv_heads)]
    _launch_turn(flat, parts, cos, sin, join=False)
    return parts[0], parts[1], parts[2]


def join_turned(queries: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """See fast_ops.join_turned."""
    parts = [queries.contiguous(), keys.contiguous(), values.contiguous()]
    flat = queries.new_empty(len(queries), sum(part.shape[1] for part in parts) * queries.shape[2])
    _launch_turn(flat, parts, cos, sin, join=True)
    return flat


def _launch_turn(flat: Tensor, parts: list[Tensor], cos: Tensor, sin: Tensor, *, join: bool) -> None:
    heads, kv_heads, width = parts[0].shape[1], parts[1].shape[1], parts[0].shape[2]
    group = 8
    while heads % group or kv_heads % group:
        group //= 2
    grid = (len(flat), (heads + 2 * kv_heads) // group)
    _turn[grid](
        flat,
        *parts,
        cos.contiguous(),
        sin.contiguous(),
        flat.stride(0),
        heads,
        kv_heads,
        HALF=width // 2,
        GROUP=group,
        JOIN=join,
        num_warps=2,
    )


def dropped(hidden: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """See fast_ops.dropped."""
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    grid = (len(hidden), triton.cdiv(width, _COLUMNS))
    _drop[grid](hidden, hidden, out, seed, width, start, rate, 1 / (1 - rate), BLOCK=_COLUMNS, ADD=False)
    return out


def add_dropped(total: Tensor, part: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """See fast_ops.add_dropped; the sum takes the place of `total`."""
    width = part.shape[1]
    grid = (len(part), triton.cdiv(width, _COLUMNS))
    _drop[grid](part.contiguous(), total, total, seed, width, start, rate, 1 / (1 - rate), BLOCK=_COLUMNS, ADD=True)
    return total
