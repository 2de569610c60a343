"""Causal attention over packed segments: flash attention without padding on a GPU, a dense mask elsewhere."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from candletune.training.fast.packing import Segments

Saved = tuple[Tensor, ...]


def flash_usable(queries: Tensor) -> bool:
    """Whether PyTorch's own flash attention takes these queries (n, heads, d)."""
    if queries.device.type != "cuda" or queries.dtype not in (torch.bfloat16, torch.float16):
        return False
    if not torch.backends.cuda.is_flash_attention_available():  # PyTorch for Windows is built without, at times
        return False
    return torch.cuda.get_device_capability(queries.device)[0] >= 8 and queries.shape[-1] <= 256


def attend(queries: Tensor, keys: Tensor, values: Tensor, where: Segments, scale: float) -> tuple[Tensor, Saved]:
    """Attention output (n, heads, d) of queries (n, heads, d) over spread keys and values (m, kv heads, d).

    A segment's queries are the last places of its keys, so the causal mask is aligned at the lower right: just what
    tokens behind a shared prefix need. Grouped queries need no repeated keys.
    """
    if flash_usable(queries):
        out, log_sums, rng, unused, _ = torch.ops.aten._flash_attention_forward(
            queries,
            keys,
            values,
            where.cu_queries,
            where.cu_keys,
            max(where.queries),
            max(where.keys),
            0.0,
            True,
            False,
            scale=scale,
        )
        return out, (out, log_sums, rng, unused)
    return _dense(queries, keys, values, where, scale), ()


def attend_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, saved: Saved, where: Segments, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to queries, spread keys and spread values."""
    if saved:
        out, log_sums, rng, unused = saved
        found: Any = torch.ops.aten._flash_attention_backward(
            grad.contiguous(),
            queries,
            keys,
            values,
            out,
            log_sums,
            where.cu_queries,
            where.cu_keys,
            max(where.queries),
            max(where.keys),
            0.0,
            True,
            rng,
            unused,
            scale=scale,
        )
        return found[0], found[1], found[2]
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in (queries, keys, values)]
        out = _dense(leaves[0], leaves[1], leaves[2], where, scale)
        grads = torch.autograd.grad(out, leaves, grad)
    return grads[0], grads[1], grads[2]


def _dense(queries: Tensor, keys: Tensor, values: Tensor, where: Segments, scale: float) -> Tensor:
    """The same with rows padded to a rectangle and a boolean mask."""
    wide, long = max(where.queries), max(where.keys)
    counts = torch.tensor(where.queries, device=queries.device)
    totals = torch.tensor(where.keys, device=queries.device)
    query_rows = (where.cu_queries[:-1, None] + torch.arange(wide, device=queries.device)).clamp(max=len(queries) - 1)
    key_rows = (where.cu_keys[:-1, None] + torch.arange(long, device=queries.device)).clamp(max=len(keys) - 1)
    place = torch.arange(wide, device=queries.device)[None, :, None] + (totals - counts)[:, None, None]
    mask = torch.arange(long, device=queries.device)[None, None] <= place
    out = scaled_dot_product_attention(
        queries[query_rows].transpose(1, 2),
        keys[key_rows].transpose(1, 2),
        values[key_rows].transpose(1, 2),
        attn_mask=mask[:, None],
        scale=scale,
        enable_gqa=keys.shape[1] != queries.shape[1],
    ).transpose(1, 2)
    real = torch.arange(wide, device=queries.device)[None] < counts[:, None]
    return out[real]
