"""Causal attention over packed segments: flash attention without padding on a GPU, a dense mask elsewhere.

A segment's queries are the last places of its keys, so the causal mask is aligned at the lower right: just what
tokens behind a shared prefix need. Grouped queries need no repeated keys. Symbols and shapes: see the package.

The backward pass is autograd's own: `attend_and_save` keeps the small graph from queries, keys and values to the
output, and `attend_backward` runs it. Of what that graph would keep, the gathered keys and values are left out and
gathered again, since they hold the prefix once a row.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention

from candletune.training.fast.packing import Segments


@dataclass(frozen=True, slots=True)
class SavedAttention:
    """The graph of one attention: its leaves (queries, packed keys, packed values) and its output (A or T, H, d)."""

    inputs: tuple[Tensor, Tensor, Tensor]
    out: Tensor


def flash_usable(queries: Tensor) -> bool:
    """Whether PyTorch's own flash attention is built in and takes these queries (n, H, d)."""
    if queries.device.type != "cuda" or queries.dtype not in (torch.bfloat16, torch.float16):
        return False
    if not torch.backends.cuda.is_flash_attention_available():  # Windows builds may lack it
        return False
    return torch.cuda.get_device_capability(queries.device)[0] >= 8 and queries.shape[-1] <= 256


def attend(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
    """Attention output (n, H, d) of queries (n, H, d) over packed keys and values (T, K, d); differentiable."""
    gathered: list[Tensor] = [_Gather.apply(part, segments) for part in (keys, values)]
    return _attention(queries)(queries, gathered[0], gathered[1], segments)


def attend_and_save(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> SavedAttention:
    """`attend`, with what its backward needs."""
    with torch.enable_grad():
        inputs = queries.detach().requires_grad_(), keys.detach().requires_grad_(), values.detach().requires_grad_()
        gathered = [_Gather.apply(part, segments) for part in inputs[1:]]
        with _gathered_again(gathered, [part.detach() for part in inputs[1:]], segments):
            out = _attention(queries)(inputs[0], gathered[0], gathered[1], segments)
    return SavedAttention(inputs, out)


def attend_backward(grad: Tensor, saved: SavedAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to queries, packed keys and packed values."""
    queries, keys, values = torch.autograd.grad(saved.out, saved.inputs, grad.contiguous())
    return queries, keys, values


class _Gather(torch.autograd.Function):
    """`Segments.gather`, whose gradient is summed in a fixed order, which indexing's own is not."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, segments: Segments) -> Tensor:
        """Packed (T, K, d) to gathered (S, K, d)."""
        ctx.segments = segments
        gathered = segments.gather(packed)
        return gathered.view_as(gathered) if gathered is packed else gathered

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        """Gathered (S, K, d) to packed (T, K, d)."""
        packed: Tensor = ctx.segments.reduce(grad[0])
        return packed, None


def _gathered_again(gathered: list[Tensor], packed: list[Tensor], segments: Segments) -> saved_tensors_hooks:
    """While the graph is built: keep packed keys and values in place of gathered ones.

    The closures hold addresses and packed tensors only, so that the gathered ones are freed.
    """
    sources = {(part.data_ptr(), part.shape): source for part, source in zip(gathered, packed, strict=True)}

    def pack(saved: Tensor) -> Tensor | Callable[[], Tensor]:
        source = sources.get((saved.data_ptr(), saved.shape))
        # detached, as saved_tensors_hooks asks: what is kept must not hold the graph that keeps it
        return saved.detach() if source is None else lambda: segments.gather(source)

    def unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept()

    return saved_tensors_hooks(pack, unpack)


def _attention(queries: Tensor) -> Callable[[Tensor, Tensor, Tensor, Segments], Tensor]:
    """Attention over gathered keys and values for queries of this type and device."""
    if not flash_usable(queries):
        return _dense
    return _flash_aten if public_varlen() is None else _flash_varlen


@cache
def public_varlen() -> Callable[..., Tensor] | None:
    """`torch.nn.attention.varlen.varlen_attn`, causal, where it has a window and a scale (torch 2.11 on), else None.

    From torch 2.12 on it wants to be told of grouped queries.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    if not {"window_size", "scale"} <= set(known):
        return None
    causal = partial(varlen_attn, window_size=(-1, 0))
    return cast(Callable[..., Tensor], partial(causal, enable_gqa=True) if "enable_gqa" in known else causal)


def _flash_varlen(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
    """PyTorch's public function."""
    varlen = public_varlen()
    assert varlen is not None  # noqa: S101
    out: Tensor = varlen(
        queries,
        keys,
        values,
        segments.cu_queries,
        segments.cu_keys,
        max(segments.queries),
        max(segments.keys),
        scale=queries.shape[-1] ** -0.5,
    )
    return out


def _flash_aten(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
    """The kernels below it, for torch 2.8 to 2.10, whose public function is missing or has no window."""
    out: Tensor = _FlashAten.apply(queries, keys, values, segments)
    return out


class _FlashAten(torch.autograd.Function):
    """Flash attention of PyTorch's private operators."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
        """Attention; keeps the output and the log-sums of its softmax."""
        out, log_sums, rng, unused, _ = torch.ops.aten._flash_attention_forward(
            queries,
            keys,
            values,
            segments.cu_queries,
            segments.cu_keys,
            max(segments.queries),
            max(segments.keys),
            0.0,
            True,
            False,
            scale=queries.shape[-1] ** -0.5,
        )
        ctx.segments = segments
        ctx.save_for_backward(queries, keys, values, out, log_sums, rng, unused)
        attended: Tensor = out
        return attended

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of the three."""
        queries, keys, values, out, log_sums, rng, unused = ctx.saved_tensors
        segments = ctx.segments
        grads = torch.ops.aten._flash_attention_backward(
            grad[0].contiguous(),
            queries,
            keys,
            values,
            out,
            log_sums,
            segments.cu_queries,
            segments.cu_keys,
            max(segments.queries),
            max(segments.keys),
            0.0,
            True,
            rng,
            unused,
            scale=queries.shape[-1] ** -0.5,
        )
        return grads[0], grads[1], grads[2], None


def _dense(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
    """Rows padded to a rectangle and a boolean mask."""
    out: Tensor = _Dense.apply(queries, keys, values, segments)
    return out


class _Dense(torch.autograd.Function):
    """Dense attention that is computed again in backward, so that no (rows, H, n, n) matrix is kept."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
        """Attention."""
        ctx.segments = segments
        ctx.save_for_backward(queries, keys, values)
        return _dense_forward(queries, keys, values, segments)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of the three."""
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in ctx.saved_tensors]
            out = _dense_forward(leaves[0], leaves[1], leaves[2], ctx.segments)
            grads = torch.autograd.grad(out, leaves, grad[0])
        return grads[0], grads[1], grads[2], None


def _dense_forward(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
    """Scaled dot-product attention of the rectangle."""
    device = queries.device
    most_queries, most_keys = max(segments.queries), max(segments.keys)
    counts = torch.tensor(segments.queries, device=device)
    totals = torch.tensor(segments.keys, device=device)
    query_rows = (segments.cu_queries[:-1, None] + torch.arange(most_queries, device=device)).clamp(
        max=len(queries) - 1
    )
    key_rows = (segments.cu_keys[:-1, None] + torch.arange(most_keys, device=device)).clamp(max=len(keys) - 1)
    place = torch.arange(most_queries, device=device)[None, :, None] + (totals - counts)[:, None, None]
    mask = torch.arange(most_keys, device=device)[None, None] <= place
    out = scaled_dot_product_attention(
        queries[query_rows].transpose(1, 2),
        keys[key_rows].transpose(1, 2),
        values[key_rows].transpose(1, 2),
        attn_mask=mask[:, None],
        scale=queries.shape[-1] ** -0.5,
        enable_gqa=keys.shape[1] != queries.shape[1],
    ).transpose(1, 2)
    real = torch.arange(most_queries, device=device)[None] < counts[:, None]
    return out[real]
