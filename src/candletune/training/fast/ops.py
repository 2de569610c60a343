"""Elementwise arithmetic of a layer: plain functions here, the same as Triton kernels in `kernels`.

Symbols and shapes: see the package. `tests/training/fast/test_kernels.py` holds every kernel to its function here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu

from candletune.training.utility import DecisionTerms, utility_loss, utility_targets

_ROW, _MIX_1, _MIX_2 = -1640531527, -2048144789, -1028477387  # 2^32/phi and murmur3's finalizer, as signed 32-bit


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as Llama and Mistral compute it (Zhang and Sennrich 2019); shapes (n, h) and (h,)."""
    wide = hidden.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * scaled.to(hidden.dtype)


def rms_norm_backward(grad: Tensor, hidden: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """Gradient with respect to `hidden` of a normalised branch plus that of its residual, shape (n, h).

    With u = x / rms(x) and g = grad * weight: dx = (g - u * mean(g * u)) / rms(x).
    """
    wide = hidden.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    unit = wide * scale
    grad_unit = grad.float() * weight.float()
    inner = scale * (grad_unit - unit * (grad_unit * unit).mean(-1, keepdim=True))
    return (residual.float() + inner).to(hidden.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """SwiGLU (Shazeer 2020): (n, 2f) of gate and up to silu(gate) * up, (n, f)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


def swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    """Gradient of `swiglu` with respect to its input, (n, 2f). `gate_up` may be overwritten.

    With s = sigmoid(gate): d gate = grad * up * s * (1 + gate * (1 - s)), d up = grad * gate * s.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    x, upper, wide = gate.float(), up.float(), grad.float()
    share = torch.sigmoid(x)
    inner = wide * upper * share * (1 + x * (1 - share))
    return torch.cat([inner.to(gate_up.dtype), (wide * x * share).to(gate_up.dtype)], dim=-1)


def _rotate(split: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (n, heads, d) with (n, d) tables; with -sin it is its own transpose."""
    half = split.shape[-1] // 2
    swapped = torch.cat([-split[..., half:], split[..., :half]], dim=-1)
    return split * cos[:, None] + swapped * sin[:, None]


def split_rope(qkv: Tensor, heads: int, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Projections (n, (H + 2K) d) to rotated queries (n, H, d), rotated keys and values (n, K, d)."""
    split = qkv.unflatten(1, (heads + 2 * kv_heads, -1))
    queries, keys, values = split.split([heads, kv_heads, kv_heads], dim=1)
    return _rotate(queries, cos, sin), _rotate(keys, cos, sin), values.contiguous()


def join_rope(queries: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The transpose of `split_rope`: gradients of the three to the gradient of the projections."""
    return torch.cat([_rotate(queries, cos, -sin), _rotate(keys, cos, -sin), values], dim=1).flatten(1)


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


def dropout(hidden: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """Inverted dropout of (n, h) by a mask that `seed` decides; rows are numbered from `start`."""
    return hidden * _mask(hidden, rate, seed, start)


def add_dropout(total: Tensor, part: Tensor, rate: float, seed: Tensor, start: int) -> Tensor:
    """`total` plus `part` under the mask of `dropout`: its transpose, added. `total` may be overwritten."""
    return total + part * _mask(part, rate, seed, start)


def cross_entropy_grad(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of weighted cross-entropies and its gradient with respect to the logits, (n, V).

    The gradient of one term is weight * (softmax(logits) - onehot(target)).
    """
    wide = logits.float()
    target_index = targets[:, None]
    total = torch.logsumexp(wide, dim=-1, keepdim=True)
    losses = (total - wide.gather(1, target_index))[:, 0] * weights
    grad = torch.exp(wide - total).scatter_add_(1, target_index, torch.full_like(total, -1.0)) * weights[:, None]
    return losses.sum(), grad.to(logits.dtype)


def decisions_grad(logits: Tensor, terms: DecisionTerms) -> tuple[Tensor, Tensor]:
    """`utility.decisions_loss` and its gradient with respect to the logits, (D, V), by the formulas of that module.

    The gradient of one decision is weight * (softmax(logits) - targets), the targets from the logits themselves.
    """
    wide = logits.float()
    total = torch.logsumexp(wide, dim=-1, keepdim=True)
    three = wide.gather(1, terms.ids)
    weight = terms.scales[:, :1]
    losses = (total - three.logsumexp(-1, keepdim=True) + utility_loss(three, terms)[:, None]) * weight
    grad = torch.exp(wide - total).scatter_add_(1, terms.ids, -utility_targets(three, terms)) * weight
    return losses.sum(), grad.to(logits.dtype)


@dataclass(frozen=True, slots=True)
class Ops:
    """The functions above, plain or as kernels."""

    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    rms_norm_backward: Callable[[Tensor, Tensor, Tensor, float, Tensor], Tensor]
    swiglu: Callable[[Tensor], Tensor]
    swiglu_backward: Callable[[Tensor, Tensor], Tensor]
    split_rope: Callable[[Tensor, int, int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    join_rope: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    dropout: Callable[[Tensor, float, Tensor, int], Tensor]
    add_dropout: Callable[[Tensor, Tensor, float, Tensor, int], Tensor]


PLAIN = Ops(rms_norm, rms_norm_backward, swiglu, swiglu_backward, split_rope, join_rope, dropout, add_dropout)
"""Any device, no compiler needed."""


def kernel_ops() -> Ops:
    """The Triton kernels.

    Raises:
        ImportError: Triton is not installed.
    """
    from candletune.training.fast import kernels

    return Ops(
        kernels.rms_norm,
        kernels.rms_norm_backward,
        kernels.swiglu,
        kernels.swiglu_backward,
        kernels.split_rope,
        kernels.join_rope,
        kernels.dropout,
        kernels.add_dropout,
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
        ops.rms_norm(torch.ones(3, 64, device=device), torch.ones(64, device=device), 1e-5)
    except Exception as error:  # whatever stops Triton, the plain functions are right
        return PLAIN, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ops, None
