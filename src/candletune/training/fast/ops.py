"""The fast path's arithmetic: small pure functions here, the same as Triton kernels in fast_kernels.py."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu

_ROW, _MIX_1, _MIX_2 = -1640531527, -2048144789, -1028477387  # 2^32/phi and murmur3's finalizer, as signed 32-bit


def norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as Llama and Mistral compute it; shapes (n, h) and (h,)."""
    wide = hidden.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * scaled.to(hidden.dtype)


def norm_backward(grad: Tensor, hidden: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """Gradient with respect to `hidden` of a normalised branch and its residual, shape (n, h)."""
    wide = hidden.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    unit = wide * scale
    pulled = grad.float() * weight.float()
    inner = scale * (pulled - unit * (pulled * unit).mean(-1, keepdim=True))
    return (residual.float() + inner).to(hidden.dtype)


def gate(both: Tensor) -> Tensor:
    """SwiGLU: (n, 2f) of gate and up to silu(gate) * up, (n, f)."""
    first, second = both.chunk(2, dim=-1)
    return silu(first) * second


def gate_backward(grad: Tensor, both: Tensor) -> Tensor:
    """Gradient of `gate` with respect to its input, (n, 2f). `both` may be overwritten."""
    first, second = both.chunk(2, dim=-1)
    x, upper, wide = first.float(), second.float(), grad.float()
    share = torch.sigmoid(x)
    inner = wide * upper * share * (1 + x * (1 - share))
    return torch.cat([inner.to(both.dtype), (wide * x * share).to(both.dtype)], dim=-1)


def _turned(split: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (n, heads, d) with (n, d) tables; with -sin it is its own transpose."""
    half = split.shape[-1] // 2
    swapped = torch.cat([-split[..., half:], split[..., :half]], dim=-1)
    return split * cos[:, None] + swapped * sin[:, None]


def split_turned(flat: Tensor, heads: int, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Projections (n, (heads + 2 kv heads) d) to rotated queries, rotated keys and values, (n, heads, d) each."""
    split = flat.unflatten(1, (heads + 2 * kv_heads, -1))
    queries, keys, values = split.split([heads, kv_heads, kv_heads], dim=1)
    return _turned(queries, cos, sin), _turned(keys, cos, sin), values.contiguous()


def join_turned(queries: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The transpose of `split_turned`: gradients of the three to the gradient of the projections."""
    return torch.cat([_turned(queries, cos, -sin), _turned(keys, cos, -sin), values], dim=1).flatten(1)


def _mask(like: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """Kept places, scaled by 1 / (1 - rate): a hash of place and seed, so that it can be made again in backward."""
    rows = torch.arange(like.shape[0], device=like.device, dtype=torch.int32)[:, None] + start
    columns = torch.arange(like.shape[1], device=like.device, dtype=torch.int32)[None]
    bits = (rows * like.shape[1] + columns) * _ROW ^ seed
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * _MIX_1
    bits = (bits ^ (bits >> 13 & 0x7FFFF)) * _MIX_2
    bits = bits ^ (bits >> 16 & 0xFFFF)
    uniform = (bits & 0x7FFFFFFF).float() * 2.0**-31
    return (uniform >= rate).to(like.dtype) * (1 / (1 - rate))


def dropped(hidden: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """Inverted dropout of (n, h); rows are numbered from `start`."""
    return hidden * _mask(hidden, rate, seed, start)


def add_dropped(total: Tensor, part: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """`total` plus `part` under the mask of `dropped`: dropout's transpose, added. `total` may be overwritten."""
    return total + part * _mask(part, rate, seed, start)


def token_losses(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of weighted cross-entropies and its gradient with respect to the logits, (n, vocabulary)."""
    wide = logits.float()
    chosen = targets[:, None]
    total = torch.logsumexp(wide, dim=-1, keepdim=True)
    losses = (total - wide.gather(1, chosen))[:, 0] * weights
    grad = torch.exp(wide - total).scatter_add_(1, chosen, torch.full_like(total, -1.0)) * weights[:, None]
    return losses.sum(), grad.to(logits.dtype)


@dataclass(frozen=True, slots=True)
class Ops:
    """The functions above, plain or as kernels."""

    norm: Callable[[Tensor, Tensor, float], Tensor]
    norm_backward: Callable[[Tensor, Tensor, Tensor, float, Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]
    gate_backward: Callable[[Tensor, Tensor], Tensor]
    split_turned: Callable[[Tensor, int, int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    join_turned: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    dropped: Callable[[Tensor, float, Tensor, int], Tensor]
    add_dropped: Callable[[Tensor, Tensor, float, Tensor, int], Tensor]


PLAIN = Ops(norm, norm_backward, gate, gate_backward, split_turned, join_turned, dropped, add_dropped)
"""Any device, no compiler needed."""


def kernel_ops() -> Ops:
    """The Triton kernels.

    Raises:
        ImportError: Triton is not installed.
    """
    from candletune.training.fast import kernels as fused

    return Ops(
        fused.norm,
        fused.norm_backward,
        fused.gate,
        fused.gate_backward,
        fused.split_turned,
        fused.join_turned,
        fused.dropped,
        fused.add_dropped,
    )


@cache
def ops_for(device: str) -> tuple[Ops, str | None]:
    """Kernels on a CUDA device where Triton works (it needs a C compiler too), the plain functions elsewhere.

    Returns:
        The functions, and why they are not the kernels on a CUDA device that should have them.
    """
    if not device.startswith("cuda"):
        return PLAIN, None
    try:
        ops = kernel_ops()
        ops.norm(torch.ones(3, 64, device=device), torch.ones(64, device=device), 1e-5)
    except Exception as error:  # whatever stops Triton, the plain functions are right
        return PLAIN, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ops, None
