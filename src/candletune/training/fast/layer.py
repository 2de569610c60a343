"""One decoder layer, forward and backward by hand.

Symbols and shapes: see the package. Forward, for hidden x (T, h)::

    q, k, v  = rope(linear(norm(x)))         mid  = x + linear_o(attention(q, k, v))
    gate, up = linear(norm(mid))             y    = mid + linear_down(silu(gate) * up)

Derivation. Every product is z = x W^T + s D(x) A^T B^T, with W frozen, A (r, inputs) and B (outputs, r) trained,
s = alpha / r and D the dropout mask with its factor. Write lora_a = D(x) A^T and let g = dL/dz come from above. Then::

    dL/dB = s g^T lora_a                     grad_lora = s g B             (the gradient of lora_a)
    dL/dA = grad_lora^T D(x)                 dL/dx     = g W + D(grad_lora A)

W needs no gradient, so nothing of size (outputs, inputs) is made, and D is its own transpose (a diagonal matrix). LoRA
gradients are sums over tokens, so they are added up chunk by chunk in float32 (`GradientSums`). The residual stream
passes its gradient on unchanged: with g = dL/dy,

    dL/dmid = g + norm'(mid)^T linear_gate_up^T swiglu'(gate, up)^T linear_down^T g
    dL/dx   = dL/dmid + norm'(x)^T linear_qkv^T rope^T attention'^T linear_o^T dL/dmid

and the two sums are made inside `rms_norm_backward`. `swiglu'`, `norm'` and `rope^T` are derived in `ops`.

A bias adds nothing to any of these, since it is frozen; where heads of q and k are normalised before they are rotated,
`head_norm` stands between linear_qkv and rope.

What need not be computed. linear_down's result enters no gradient (only its input and its LoRA pair do), so computing
a layer again stops before it. The last layer's output is asked for at the A target positions only: its queries, output
projection and feed-forward part have A rows, its keys and values T, and its input's gradient is scattered back. The
first layer's input is the embedding, which is frozen, so its gradient is not made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from candletune.training.fast.attention import SavedAttention, attend, attend_and_save, attend_backward
from candletune.training.fast.head_norm import normalise_heads, normalise_heads_backward
from candletune.training.fast.ops import Ops
from candletune.training.fast.packing import Segments
from candletune.training.fast.weights import GradientSums, Layer, LoraPair, Stack


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What all layers of one micro-batch share.

    Attributes:
        ops: elementwise functions.
        cos: rotary table (T, d).
        sin: rotary table (T, d).
        heads: H, query heads.
        kv_heads: K, key and value heads.
        seeds: a dropout seed for each LoRA pair, int32; None: no dropout (evaluation).
        chunks: (start, stop) rows of the feed-forward part that are computed at once.
        offloaded: how many of the first chunks wait in host memory where a layer does not keep everything.
        sums: where LoRA gradients go; None without a backward pass.
    """

    ops: Ops
    cos: Tensor
    sin: Tensor
    heads: int
    kv_heads: int
    seeds: Tensor | None
    chunks: tuple[tuple[int, int], ...]
    offloaded: int = 0
    sums: GradientSums | None = None

    def dropout(self, inputs: Tensor, pair: LoraPair, start: int) -> Tensor:
        """D(x) for a pair's inputs whose first row is number `start`."""
        if self.seeds is None or pair.dropout == 0:
            return inputs
        return self.ops.dropout(inputs, pair.dropout, self.seeds[pair.number], start)

    def add_dropout(self, total: Tensor, grad_lora: Tensor, a: Tensor, pair: LoraPair, start: int) -> Tensor:
        """total + D(grad_lora A); `total` may be overwritten."""
        if self.seeds is None or pair.dropout == 0:
            return total.addmm_(grad_lora, a)
        return self.ops.add_dropout(total, grad_lora @ a, pair.dropout, self.seeds[pair.number], start)


@dataclass(frozen=True, slots=True)
class LayerPass:
    """One layer's part in one micro-batch: what its forward and its backward both read.

    Attributes:
        layer: norms and sizes.
        stacks: its products, expanded.
        batch: what all layers share.
        segments: attention segments; in the last layer their queries are the target positions.
        target_index: positions whose output is wanted (the last layer); None: all.
        before: keys and values (P, K, d) of what all rows begin with, computed in a pass of its own; None: nothing was.
    """

    layer: Layer
    stacks: dict[str, Stack]
    batch: MicroBatch
    segments: Segments
    target_index: Tensor | None = None
    before: tuple[Tensor, Tensor] | None = None

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """Rows of the feed-forward part computed at once; the last layer has few."""
        return self.batch.chunks if self.target_index is None else ((0, len(self.target_index)),)


@dataclass(slots=True)
class SavedActivations:
    """What a layer's backward needs; the optional parts are computed again where they are None.

    Attributes:
        hidden: (T, h), the layer's input.
        lora_a: each LoRA pair's narrow product by its number, (T, r); of chunks the first only.
        attention: queries, keys, values and the attention between them.
        attn_out: (T, H d).
        mid: (T, h).
        gate_up: (chunk, 2f) a chunk.
        heads: projections of queries and keys before their norms, (T, (H + K) d); in the last layer those of queries
            and those of keys.
    """

    hidden: Tensor | None
    lora_a: dict[int, Tensor] = field(default_factory=dict)
    attention: SavedAttention | None = None
    attn_out: Tensor | None = None
    mid: Tensor | None = None
    gate_up: list[Tensor] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)


def linear_forward(
    inputs: Tensor,
    stack: Stack,
    batch: MicroBatch,
    saved: SavedActivations,
    *,
    start: int = 0,
    residual: Tensor | None = None,
    in_place: bool = False,
) -> Tensor:
    """x W^T, bias, the LoRA pairs' parts and a residual, shape (rows, outputs); `start` numbers the first row.

    With `in_place` the residual itself becomes that.
    """
    weight = stack.weight
    added = [part for part in (residual, stack.bias) if part is not None]
    if residual is not None and in_place:
        out = (residual if stack.bias is None else residual.add_(stack.bias)).addmm_(inputs, weight.t())
    else:
        out = torch.addmm(sum(added[1:], added[0]), inputs, weight.t()) if added else inputs @ weight.t()
    for pair in stack.loras:
        lora_a = saved.lora_a.get(pair.number) if start == 0 else None
        if lora_a is None:
            lora_a = batch.dropout(inputs, pair, start) @ pair.a.to(inputs.dtype).t()
        if start == 0:
            saved.lora_a[pair.number] = lora_a
        out[:, pair.start : pair.stop].addmm_(lora_a, pair.b.to(inputs.dtype).t(), alpha=pair.scale)
    return out


def linear_backward(
    grad: Tensor, inputs: Tensor, stack: Stack, batch: MicroBatch, saved: SavedActivations, *, start: int = 0
) -> Tensor:
    """Adds the LoRA gradients and returns the gradient of the inputs, (rows, inputs)."""
    back = grad @ stack.weight
    for pair in stack.loras:
        grad_lora = lora_backward(grad, inputs, pair, batch, saved, start=start)
        back = batch.add_dropout(back, grad_lora, pair.a.to(inputs.dtype), pair, start)
    return back


def lora_backward(
    grad: Tensor, inputs: Tensor, pair: LoraPair, batch: MicroBatch, saved: SavedActivations, *, start: int = 0
) -> Tensor:
    """Adds one pair's gradients and returns grad_lora, (rows, r)."""
    assert batch.sums is not None  # noqa: S101
    a, b = pair.a.to(inputs.dtype), pair.b.to(inputs.dtype)
    grad_part = grad[:, pair.start : pair.stop]
    grad_lora = (grad_part @ b) * pair.scale
    dropped = batch.dropout(inputs, pair, start)
    lora_a = saved.lora_a.get(pair.number) if start == 0 else None
    if lora_a is None:
        lora_a = dropped @ a.t()
    batch.sums.add(pair.b, (grad_part.t() @ lora_a) * pair.scale)
    batch.sums.add(pair.a, grad_lora.t() @ dropped)
    return grad_lora


def forward_layer(
    step: LayerPass,
    hidden: Tensor,
    *,
    keep: bool = False,
    offload: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, SavedActivations]:
    """Run a layer.

    Args:
        step: the layer's part in the micro-batch.
        hidden: (T, h).
        keep: keep what backward needs instead of only the input.
        offload: takes the first chunks' gate and up projections where they are not kept.

    Returns:
        The output, (T or A, h), and what is kept.
    """
    batch, eps = step.batch, step.layer.eps
    saved = SavedActivations(hidden)
    mid = _attention_half(step, hidden, saved, keep=keep)
    inner = batch.ops.rms_norm(mid, step.layer.norms[1], eps)
    out = torch.empty_like(mid) if keep else mid
    for number, (start, stop) in enumerate(step.chunks):
        gate_up = linear_forward(inner[start:stop], step.stacks["gate_up"], batch, saved, start=start)
        activated = batch.ops.swiglu(gate_up)
        if keep:
            saved.gate_up.append(gate_up)
        elif offload is not None and number < batch.offloaded:
            offload(number, gate_up)
        del gate_up
        part = linear_forward(
            activated, step.stacks["down"], batch, saved, start=start, residual=mid[start:stop], in_place=not keep
        )
        if keep:  # backward reads `mid`
            out[start:stop] = part
    return out, saved if keep else SavedActivations(hidden, saved.lora_a)


def backward_layer(
    step: LayerPass,
    grad: Tensor,
    saved: SavedActivations,
    *,
    first: bool = False,
    reload: Callable[[int], Tensor] | None = None,
) -> Tensor | None:
    """Add the layer's LoRA gradients and return the gradient of its input (None for the first layer).

    Args:
        step: the layer's part in the micro-batch, as in forward.
        grad: gradient of the output.
        saved: from `forward_layer`; emptied as it is used.
        first: nothing trained lies below, so the input's gradient is not computed.
        reload: gives back what `offload` took.
    """
    hidden, batch = saved.hidden, step.batch
    assert hidden is not None  # noqa: S101
    if saved.attention is None:
        _attention_half(step, hidden, saved, keep=True)
    grad = _feed_forward_backward(step, grad, saved, reload)
    attention, attn_out = saved.attention, saved.attn_out
    assert attention is not None and attn_out is not None  # noqa: S101
    saved.attention = saved.attn_out = None
    grad_attn = linear_backward(grad, attn_out, step.stacks["o"], batch, saved)
    del attn_out
    grads = attend_backward(grad_attn.view(len(grad_attn), batch.heads, -1), attention)
    del grad_attn, attention
    inputs = batch.ops.rms_norm(hidden, step.layer.norms[0], step.layer.eps)
    if step.target_index is not None:
        grad_inputs, grad = _last_qkv_backward(step, grad, grads, inputs, saved)
    else:
        grad_qkv = batch.ops.join_rope(*grads, batch.cos, batch.sin)
        del grads
        _heads_backward(step, grad_qkv, saved, (batch.heads, batch.kv_heads))
        if first:
            for pair in step.stacks["qkv"].loras:
                lora_backward(grad_qkv, inputs, pair, batch, saved)
            return None
        grad_inputs = linear_backward(grad_qkv, inputs, step.stacks["qkv"], batch, saved)
    return batch.ops.rms_norm_backward(grad_inputs, hidden, step.layer.norms[0], step.layer.eps, grad)


def _attention_half(step: LayerPass, hidden: Tensor, saved: SavedActivations, *, keep: bool) -> Tensor:
    """Norm, projections, attention and output projection: `mid`; with `keep`, what backward needs goes to `saved`."""
    batch, qkv = step.batch, step.stacks["qkv"]
    inputs = batch.ops.rms_norm(hidden, step.layer.norms[0], step.layer.eps)
    if step.target_index is None:
        flat = linear_forward(inputs, qkv, batch, saved)
        _heads_forward(step, flat, saved, (batch.heads, batch.kv_heads), keep=keep)
        queries, keys, values = batch.ops.split_rope(flat, batch.heads, batch.kv_heads, batch.cos, batch.sin)
        del flat
        residual = hidden
    else:
        queries, keys, values = _last_qkv(step, inputs, step.target_index, saved, keep=keep)
        residual = hidden[step.target_index]
    if step.before is not None:
        keys, values = (torch.cat(parts) for parts in zip(step.before, (keys, values), strict=True))
    if keep:
        saved.attention = attend_and_save(queries, keys, values, step.segments)
        out = saved.attention.out.detach()
    else:
        out = attend(queries, keys, values, step.segments)
    attn_out = out.flatten(1)
    mid = linear_forward(attn_out, step.stacks["o"], batch, saved, residual=residual)
    if keep:
        saved.attn_out, saved.mid = attn_out, mid
    return mid


def _feed_forward_backward(
    step: LayerPass, grad: Tensor, saved: SavedActivations, reload: Callable[[int], Tensor] | None
) -> Tensor:
    """Gradient of `mid`."""
    batch, mid = step.batch, saved.mid
    assert mid is not None  # noqa: S101
    norm, eps = step.layer.norms[1], step.layer.eps
    inner = batch.ops.rms_norm(mid, norm, eps)
    back = torch.empty_like(inner)
    for number, (start, stop) in enumerate(step.chunks):
        rows = slice(start, stop)
        if saved.gate_up:
            gate_up = saved.gate_up[number]
            saved.gate_up[number] = grad.new_empty(0)
        elif reload is not None and number < batch.offloaded:
            gate_up = reload(number)
        else:
            gate_up = linear_forward(inner[rows], step.stacks["gate_up"], batch, saved, start=start)
        down = step.stacks["down"]
        activated = batch.ops.swiglu(gate_up) if down.loras else gate_up
        grad_activated = linear_backward(grad[rows], activated, down, batch, saved, start=start)
        grad_gate_up = batch.ops.swiglu_backward(grad_activated, gate_up)
        del gate_up, activated, grad_activated
        back[rows] = linear_backward(grad_gate_up, inner[rows], step.stacks["gate_up"], batch, saved, start=start)
    saved.mid = None
    return batch.ops.rms_norm_backward(back, mid, norm, eps, grad)


def _last_qkv(
    step: LayerPass, inputs: Tensor, target_index: Tensor, saved: SavedActivations, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The last layer's queries at the target positions (A, H, d), keys and values at all (T, K, d)."""
    batch = step.batch
    query_stack, key_stack = _split_qkv(step)
    flat = linear_forward(inputs[target_index], query_stack, batch, saved)
    rest = linear_forward(inputs, key_stack, batch, saved)
    _heads_forward(step, flat, saved, (batch.heads, 0), keep=keep)
    _heads_forward(step, rest, saved, (0, batch.kv_heads), keep=keep)
    queries = batch.ops.split_rope(flat, batch.heads, 0, batch.cos[target_index], batch.sin[target_index])[0]
    _, keys, values = batch.ops.split_rope(rest, 0, batch.kv_heads, batch.cos, batch.sin)
    return queries, keys, values


def _last_qkv_backward(
    step: LayerPass,
    grad: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
    inputs: Tensor,
    saved: SavedActivations,
) -> tuple[Tensor, Tensor]:
    """The transpose of `_last_qkv`: gradients of the normalised input and of the residual stream, (T, h) each."""
    batch, target_index = step.batch, step.target_index
    assert target_index is not None  # noqa: S101
    queries, keys, values = grads
    query_stack, key_stack = _split_qkv(step)
    none = queries.new_empty(len(queries), 0, queries.shape[2])
    flat = batch.ops.join_rope(queries, none, none, batch.cos[target_index], batch.sin[target_index])
    _heads_backward(step, flat, saved, (batch.heads, 0))
    at_targets = linear_backward(flat, inputs[target_index], query_stack, batch, saved)
    none = keys.new_empty(len(keys), 0, keys.shape[2])
    rest = batch.ops.join_rope(none, keys, values, batch.cos, batch.sin)
    _heads_backward(step, rest, saved, (0, batch.kv_heads))
    everywhere = linear_backward(rest, inputs, key_stack, batch, saved)
    everywhere[target_index] += at_targets
    residual = torch.zeros_like(inputs)
    residual[target_index] = grad
    return everywhere, residual


def _heads_forward(
    step: LayerPass, flat: Tensor, saved: SavedActivations, counts: tuple[int, int], *, keep: bool
) -> None:
    """Normalise the heads of queries and keys in place, where the architecture does; `keep` for backward."""
    norms = step.layer.head_norms
    if norms is None:
        return
    if keep:
        saved.heads.append(flat[:, : sum(counts) * len(norms[0])].clone())
    normalise_heads(flat, norms, step.layer.eps, step.batch.ops, counts)


def _heads_backward(step: LayerPass, grad: Tensor, saved: SavedActivations, counts: tuple[int, int]) -> None:
    """The transpose of `_heads_forward`, called in the same order; what was kept is let go."""
    norms = step.layer.head_norms
    if norms is not None:
        normalise_heads_backward(grad, saved.heads.pop(0), norms, step.layer.eps, step.batch.ops, counts)


def _split_qkv(step: LayerPass) -> tuple[Stack, Stack]:
    """The queries' part of the first product, and that of keys and values."""
    qkv, batch = step.stacks["qkv"], step.batch
    head_size = qkv.weight.shape[0] // (batch.heads + 2 * batch.kv_heads)
    return qkv.split(batch.heads * head_size)
