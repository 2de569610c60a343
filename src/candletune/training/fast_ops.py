"""The fast path's arithmetic: small pure functions, fused by torch.compile on a GPU and run as they are elsewhere."""

from collections.abc import Callable
from functools import cache
from typing import Any

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


def rotate(flat: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (n, heads, d) with (n, d) tables; with -sin it is its own transpose."""
    half = flat.shape[-1] // 2
    turned = torch.cat([-flat[..., half:], flat[..., :half]], dim=-1)
    return flat * cos[:, None] + turned * sin[:, None]


def gate(both: Tensor) -> Tensor:
    """SwiGLU: (n, 2f) of gate and up to silu(gate) * up, (n, f)."""
    first, second = both.chunk(2, dim=-1)
    return silu(first) * second


def gate_backward(grad: Tensor, both: Tensor) -> Tensor:
    """Gradient of `gate` with respect to its input, (n, 2f)."""
    first, second = both.chunk(2, dim=-1)
    x, upper, wide = first.float(), second.float(), grad.float()
    share = torch.sigmoid(x)
    inner = wide * upper * share * (1 + x * (1 - share))
    return torch.cat([inner.to(both.dtype), (wide * x * share).to(both.dtype)], dim=-1)


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
    """`total` plus `part` under the mask of `dropped`: dropout's transpose, added."""
    return total + part * _mask(part, rate, seed, start)


def token_losses(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of weighted cross-entropies and its gradient with respect to the logits, (n, vocabulary)."""
    wide = logits.float()
    chosen = targets[:, None]
    total = torch.logsumexp(wide, dim=-1, keepdim=True)
    losses = (total - wide.gather(1, chosen))[:, 0] * weights
    grad = torch.exp(wide - total).scatter_add_(1, chosen, torch.full_like(total, -1.0)) * weights[:, None]
    return losses.sum(), grad.to(logits.dtype)


_COMPILED = (norm, norm_backward, rotate, gate, gate_backward, dropped, add_dropped)


class Ops:
    """The functions above, compiled or plain."""

    def __init__(self, functions: dict[str, Callable[..., Tensor]]) -> None:
        self.norm = functions["norm"]
        self.norm_backward = functions["norm_backward"]
        self.rotate = functions["rotate"]
        self.gate = functions["gate"]
        self.gate_backward = functions["gate_backward"]
        self.dropped = functions["dropped"]
        self.add_dropped = functions["add_dropped"]


def plain_ops() -> Ops:
    """Uncompiled functions: any device, no compiler needed."""
    return Ops({function.__name__: function for function in _COMPILED})


@cache
def fused_ops(device: str) -> Ops:
    """Functions fused by torch.compile on a CUDA device that has Triton and a C compiler; plain ones elsewhere."""
    if not device.startswith("cuda"):
        return plain_ops()
    fused: dict[str, Any] = {f.__name__: torch.compile(f, dynamic=True) for f in _COMPILED}
    try:
        fused["norm"](torch.ones(3, 64, device=device), torch.ones(64, device=device), 1e-5)
    except Exception:  # whatever stops the compiler (no Triton, no C compiler), the plain functions are right
        return plain_ops()
    return Ops(fused)
