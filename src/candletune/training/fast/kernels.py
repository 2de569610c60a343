# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Triton kernels of the elementwise arithmetic: each reads and writes its tensors once.

Every public function here equals the function of the same name in `ops`, to rounding; the test that says so is
`tests/training/fast/test_kernels.py::test_kernel_equals_its_plain_function[NAME]`, and `test_kernel_compiles[NAME]`
compiles it for Ampere and Hopper. torch.compile's versions of the same functions took two to five times as long
(concatenations became masked loads, and a batch's changing length became a division for each element).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _rms_norm(source, weight, target, width, eps, BLOCK: tl.constexpr):
    """One row a program: `ops.rms_norm`."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    real = place < width
    wide = tl.load(source + row * width + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    unit = (wide * scale).to(target.dtype.element_ty).to(tl.float32)
    factor = tl.load(weight + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, unit * factor, mask=real)


@triton.jit
def _rms_norm_backward(grad, source, weight, residual, target, width, eps, BLOCK: tl.constexpr):
    """One row a program: `ops.rms_norm_backward`, the residual's gradient added on the way out."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    real = place < width
    wide = tl.load(source + row * width + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    unit = wide * scale
    grad_unit = tl.load(grad + row * width + place, mask=real, other=0.0).to(tl.float32)
    grad_unit *= tl.load(weight + place, mask=real, other=0.0).to(tl.float32)
    inner = scale * (grad_unit - unit * (tl.sum(grad_unit * unit, axis=0) / width))
    inner += tl.load(residual + row * width + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, inner, mask=real)


@triton.jit
def _swiglu(gate_up, target, width, BLOCK: tl.constexpr):
    """One row and BLOCK columns a program: `ops.swiglu`."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < width
    gate = tl.load(gate_up + row * 2 * width + place, mask=real, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + place, mask=real, other=0.0).to(tl.float32)
    tl.store(target + row * width + place, gate * tl.sigmoid(gate) * up, mask=real)


@triton.jit
def _swiglu_backward(grad, gate_up, width, BLOCK: tl.constexpr):
    """One row and BLOCK columns a program: `ops.swiglu_backward`, written over `gate_up`."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < width
    gate = tl.load(gate_up + row * 2 * width + place, mask=real, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + place, mask=real, other=0.0).to(tl.float32)
    wide = tl.load(grad + row * width + place, mask=real, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    tl.store(gate_up + row * 2 * width + place, wide * up * share * (1 + gate * (1 - share)), mask=real)
    tl.store(gate_up + row * 2 * width + width + place, wide * gate * share, mask=real)


@triton.jit
def _rope(
    qkv,
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
    """One token and GROUP heads a program: `ops.split_rope`, or with JOIN its transpose `ops.join_rope`."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * GROUP
    lane = tl.arange(0, GROUP)[:, None] * (2 * HALF) + tl.arange(0, HALF)[None]
    qkv += row * stride + head * (2 * HALF)
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
        first = tl.load(qkv + lane).to(tl.float32)
        second = tl.load(qkv + lane + HALF).to(tl.float32)
    if head < heads + kv_heads:
        table = row * (2 * HALF) + tl.arange(0, HALF)[None]
        c = tl.load(cos + table).to(tl.float32)
        s = tl.load(sin + table).to(tl.float32)
        if JOIN:
            s = -s
        rotated = first * c - second * s
        second = second * c + first * s
        first = rotated
    if JOIN:
        tl.store(qkv + lane, first)
        tl.store(qkv + lane + HALF, second)
    else:
        tl.store(split + lane, first)
        tl.store(split + lane + HALF, second)


@triton.jit
def _dropout(
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
    """One row and BLOCK columns a program: `ops.dropout`, or with ADD `ops.add_dropout`."""
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


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Equals `ops.rms_norm`."""
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    _rms_norm[(len(hidden),)](hidden, weight, out, width, eps, BLOCK=triton.next_power_of_2(width), num_warps=8)
    return out


def rms_norm_backward(grad: Tensor, hidden: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """Equals `ops.rms_norm_backward`."""
    grad, hidden, residual = grad.contiguous(), hidden.contiguous(), residual.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    block = triton.next_power_of_2(width)
    _rms_norm_backward[(len(hidden),)](grad, hidden, weight, residual, out, width, eps, BLOCK=block, num_warps=8)
    return out


def swiglu(gate_up: Tensor) -> Tensor:
    """Equals `ops.swiglu`."""
    width = gate_up.shape[1] // 2
    out = gate_up.new_empty(len(gate_up), width)
    _swiglu[(len(gate_up), triton.cdiv(width, _BLOCK))](gate_up.contiguous(), out, width, BLOCK=_BLOCK)
    return out


def swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    """Equals `ops.swiglu_backward`; the gradient takes the place of `gate_up`."""
    width = grad.shape[1]
    _swiglu_backward[(len(gate_up), triton.cdiv(width, _BLOCK))](grad.contiguous(), gate_up, width, BLOCK=_BLOCK)
    return gate_up


def split_rope(qkv: Tensor, heads: int, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Equals `ops.split_rope`."""
    width = qkv.shape[1] // (heads + 2 * kv_heads)
    parts = [qkv.new_empty(len(qkv), count, width) for count in (heads, kv_heads, kv_heads)]
    _launch_rope(qkv, parts, cos, sin, join=False)
    return parts[0], parts[1], parts[2]


def join_rope(queries: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Equals `ops.join_rope`."""
    parts = [queries.contiguous(), keys.contiguous(), values.contiguous()]
    qkv = queries.new_empty(len(queries), sum(part.shape[1] for part in parts) * queries.shape[2])
    _launch_rope(qkv, parts, cos, sin, join=True)
    return qkv


def _launch_rope(qkv: Tensor, parts: list[Tensor], cos: Tensor, sin: Tensor, *, join: bool) -> None:
    heads, kv_heads, width = parts[0].shape[1], parts[1].shape[1], parts[0].shape[2]
    group = 8
    while heads % group or kv_heads % group:
        group //= 2
    grid = (len(qkv), (heads + 2 * kv_heads) // group)
    _rope[grid](
        qkv,
        *parts,
        cos.contiguous(),
        sin.contiguous(),
        qkv.stride(0),
        heads,
        kv_heads,
        HALF=width // 2,
        GROUP=group,
        JOIN=join,
        num_warps=2,
    )


def dropout(hidden: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """Equals `ops.dropout`."""
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    grid = (len(hidden), triton.cdiv(width, _BLOCK))
    _dropout[grid](hidden, hidden, out, seed, width, start, rate, 1 / (1 - rate), BLOCK=_BLOCK, ADD=False)
    return out


def add_dropout(total: Tensor, part: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """Equals `ops.add_dropout`; the sum takes the place of `total`."""
    width = part.shape[1]
    grid = (len(part), triton.cdiv(width, _BLOCK))
    _dropout[grid](part.contiguous(), total, total, seed, width, start, rate, 1 / (1 - rate), BLOCK=_BLOCK, ADD=True)
    return total
