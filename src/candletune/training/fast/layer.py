"""One decoder layer, forward and backward by hand.

Frozen weights need only the gradient of their input, so a layer keeps either just its input and computes the rest
again, or everything its backward needs. The second half of the feed-forward part is never computed twice: no gradient
needs its result.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from candletune.training.fast.attention import Saved, attend, attend_backward
from candletune.training.fast.ops import Ops
from candletune.training.fast.packing import Segments
from candletune.training.fast.weights import Layer, Lora


@dataclass(frozen=True, slots=True)
class Micro:
    """What all layers of one micro-batch share.

    Attributes:
        ops: elementwise functions.
        cos: rotary table (tokens, d).
        sin: rotary table (tokens, d).
        heads: query heads.
        kv_heads: key and value heads.
        seeds: a dropout seed for each LoRA pair, int32; None: no dropout (evaluation).
        pieces: (start, stop) rows of the feed-forward part that are computed at once.
        aside: how many of the first pieces wait in host memory where a layer does not keep everything.
    """

    ops: Ops
    cos: Tensor
    sin: Tensor
    heads: int
    kv_heads: int
    seeds: Tensor | None
    pieces: tuple[tuple[int, int], ...]
    aside: int = 0


@dataclass(slots=True)
class Kept:
    """What a layer's backward needs; the optional parts are computed again where they are None."""

    hidden: Tensor | None
    projected: dict[int, Tensor] = field(default_factory=dict)
    queries: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    mixed: Tensor | None = None
    attention: Saved = ()
    middle: Tensor | None = None
    both: list[Tensor] = field(default_factory=list)


class Gradients:
    """Float32 sums of LoRA gradients, by the parameter's identity."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.sums = {id(p): torch.zeros_like(p, dtype=torch.float32) for p in parameters}

    def add(self, parameter: Tensor, grad: Tensor) -> None:
        """Add one micro-batch's or chunk's part."""
        self.sums[id(parameter)].add_(grad)


def product(
    inputs: Tensor,
    weight: Tensor,
    loras: list[Lora],
    micro: Micro,
    kept: Kept,
    *,
    start: int = 0,
    residual: Tensor | None = None,
) -> Tensor:
    """inputs @ weight^T plus the LoRA pairs' parts (and a residual), shape (n, outputs)."""
    out = inputs @ weight.t() if residual is None else torch.addmm(residual, inputs, weight.t())
    for lora in loras:
        narrow = kept.projected.get(lora.number) if start == 0 else None
        if narrow is None:
            narrow = _dropped(inputs, lora, micro, start) @ lora.a.to(inputs.dtype).t()
        if start == 0:
            kept.projected[lora.number] = narrow
        out[:, lora.start : lora.stop].addmm_(narrow, lora.b.to(inputs.dtype).t(), alpha=lora.scale)
    return out


def product_backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    loras: list[Lora],
    micro: Micro,
    kept: Kept,
    sums: Gradients,
    *,
    start: int = 0,
    wanted: bool = True,
) -> Tensor | None:
    """Adds the LoRA gradients; returns the gradient of the inputs when it is wanted."""
    back = grad @ weight if wanted else None
    for lora in loras:
        a, b = lora.a.to(inputs.dtype), lora.b.to(inputs.dtype)
        part = grad[:, lora.start : lora.stop]
        pulled = (part @ b) * lora.scale
        shown = _dropped(inputs, lora, micro, start)
        narrow = kept.projected.get(lora.number) if start == 0 else None
        if narrow is None:
            narrow = shown @ a.t()
        sums.add(lora.b, (part.t() @ narrow) * lora.scale)
        sums.add(lora.a, pulled.t() @ shown)
        if back is not None:
            back = _add_dropped(back, pulled, a, lora, micro, start)
    return back


def forward_layer(
    hidden: Tensor,
    layer: Layer,
    weights: dict[str, Tensor],
    micro: Micro,
    where: Segments,
    *,
    picked: Tensor | None = None,
    keep: bool = False,
    stash: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, Kept]:
    """Run a layer.

    Args:
        hidden: (tokens, hidden size).
        layer: the layer.
        weights: its stacks.
        micro: shared tables.
        where: attention segments; their queries are the picked tokens if given.
        picked: tokens whose output is wanted (the last layer), all when None.
        keep: keep what backward needs instead of only the input.
        stash: takes the first pieces' gate and up projections where they are not kept.

    Returns:
        The output, (tokens or picked, hidden size), and what is kept.
    """
    kept = Kept(hidden)
    _attention_half(hidden, layer, weights, micro, where, picked, kept)
    middle = kept.middle
    assert middle is not None  # noqa: S101
    inner = micro.ops.norm(middle, layer.norms[1], layer.eps)
    out = torch.empty_like(middle)
    for number, (start, stop) in enumerate(_pieces(micro, picked)):
        both = product(inner[start:stop], weights["both"], layer.loras["both"], micro, kept, start=start)
        shown = micro.ops.gate(both)
        if keep:
            kept.both.append(both)
        elif stash is not None and number < micro.aside:
            stash(number, both)
        del both
        residual = middle[start:stop]
        out[start:stop] = product(
            shown, weights["down"], layer.loras["down"], micro, kept, start=start, residual=residual
        )
    return out, kept if keep else Kept(hidden, kept.projected)


def backward_layer(
    grad: Tensor,
    kept: Kept,
    layer: Layer,
    weights: dict[str, Tensor],
    micro: Micro,
    where: Segments,
    sums: Gradients,
    *,
    picked: Tensor | None = None,
    first: bool = False,
    fetch: Callable[[int], Tensor] | None = None,
) -> Tensor | None:
    """Add the layer's LoRA gradients and return the gradient of its input (None for the first layer).

    Args:
        grad: gradient of the output.
        kept: from `forward_layer`; emptied as it is used.
        layer: the layer.
        weights: its stacks.
        micro: shared tables.
        where: attention segments.
        sums: where LoRA gradients go.
        picked: as in forward.
        first: nothing trained lies below, so the input's gradient is not computed.
        fetch: gives back what `stash` took.
    """
    hidden = kept.hidden
    assert hidden is not None  # noqa: S101
    if kept.queries is None:
        _attention_half(hidden, layer, weights, micro, where, picked, kept)
    grad = _feed_forward_backward(grad, kept, layer, weights, micro, sums, picked, fetch)
    assert kept.mixed is not None and kept.queries is not None  # noqa: S101
    assert kept.keys is not None and kept.values is not None  # noqa: S101
    back = product_backward(grad, kept.mixed, weights["o"], layer.loras["o"], micro, kept, sums)
    assert back is not None  # noqa: S101
    kept.mixed = None
    width = kept.queries.shape[-1]
    moved = attend_backward(
        back.view(-1, micro.heads, width),
        kept.queries,
        where.spread(kept.keys),
        where.spread(kept.values),
        kept.attention,
        where,
        width**-0.5,
    )
    del back
    kept.queries = kept.keys = kept.values = None
    kept.attention = ()
    inputs = micro.ops.norm(hidden, layer.norms[0], layer.eps)
    queries, keys, values = moved[0], where.collect(moved[1]), where.collect(moved[2])
    del moved
    if picked is not None:
        return _picked_backward(grad, queries, keys, values, hidden, inputs, layer, weights, micro, kept, sums, picked)
    flat = micro.ops.join_turned(queries, keys, values, micro.cos, micro.sin)
    del queries, keys, values
    down = product_backward(flat, inputs, weights["qkv"], layer.loras["qkv"], micro, kept, sums, wanted=not first)
    return None if down is None else micro.ops.norm_backward(down, hidden, layer.norms[0], layer.eps, grad)


def _pieces(micro: Micro, picked: Tensor | None) -> tuple[tuple[int, int], ...]:
    """Rows of the feed-forward part computed at once; the last layer has few."""
    return micro.pieces if picked is None else ((0, len(picked)),)


def _attention_half(
    hidden: Tensor,
    layer: Layer,
    weights: dict[str, Tensor],
    micro: Micro,
    where: Segments,
    picked: Tensor | None,
    kept: Kept,
) -> None:
    """Norm, projections, attention and output projection; fills `kept` up to `middle`."""
    inputs = micro.ops.norm(hidden, layer.norms[0], layer.eps)
    width = weights["qkv"].shape[0] // (micro.heads + 2 * micro.kv_heads)
    if picked is None:
        flat = product(inputs, weights["qkv"], layer.loras["qkv"], micro, kept)
        kept.queries, kept.keys, kept.values = micro.ops.split_turned(
            flat, micro.heads, micro.kv_heads, micro.cos, micro.sin
        )
        del flat
        residual = hidden
    else:
        split = micro.heads * width
        own, others = _split_loras(layer.loras["qkv"], split)
        above = product(inputs[picked], weights["qkv"][:split], own, micro, kept)
        rest = product(inputs, weights["qkv"][split:], others, micro, kept)
        kept.queries = micro.ops.split_turned(above, micro.heads, 0, micro.cos[picked], micro.sin[picked])[0]
        _, kept.keys, kept.values = micro.ops.split_turned(rest, 0, micro.kv_heads, micro.cos, micro.sin)
        residual = hidden[picked]
    mixed, kept.attention = attend(kept.queries, where.spread(kept.keys), where.spread(kept.values), where, width**-0.5)
    kept.mixed = mixed.flatten(1)
    kept.middle = product(kept.mixed, weights["o"], layer.loras["o"], micro, kept, residual=residual)


def _feed_forward_backward(
    grad: Tensor,
    kept: Kept,
    layer: Layer,
    weights: dict[str, Tensor],
    micro: Micro,
    sums: Gradients,
    picked: Tensor | None,
    fetch: Callable[[int], Tensor] | None,
) -> Tensor:
    """Gradient of the residual stream in the layer's middle."""
    middle = kept.middle
    assert middle is not None  # noqa: S101
    inner = micro.ops.norm(middle, layer.norms[1], layer.eps)
    back = torch.empty_like(inner)
    for number, (start, stop) in enumerate(_pieces(micro, picked)):
        rows = slice(start, stop)
        if kept.both:
            both = kept.both[number]
            kept.both[number] = grad.new_empty(0)
        elif fetch is not None and number < micro.aside:
            both = fetch(number)
        else:
            both = product(inner[rows], weights["both"], layer.loras["both"], micro, kept, start=start)
        shown = micro.ops.gate(both) if layer.loras["down"] else both
        pulled = product_backward(
            grad[rows], shown, weights["down"], layer.loras["down"], micro, kept, sums, start=start
        )
        assert pulled is not None  # noqa: S101
        pulled = micro.ops.gate_backward(pulled, both)
        del both, shown
        found = product_backward(
            pulled, inner[rows], weights["both"], layer.loras["both"], micro, kept, sums, start=start
        )
        assert found is not None  # noqa: S101
        back[rows] = found
    kept.middle = None
    return micro.ops.norm_backward(back, middle, layer.norms[1], layer.eps, grad)


def _picked_backward(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    hidden: Tensor,
    inputs: Tensor,
    layer: Layer,
    weights: dict[str, Tensor],
    micro: Micro,
    kept: Kept,
    sums: Gradients,
    picked: Tensor,
) -> Tensor:
    """The last layer's way back through its projections: queries at the picked tokens, keys and values at all."""
    split = queries.shape[1] * queries.shape[2]
    own, others = _split_loras(layer.loras["qkv"], split)
    none = queries.new_empty(len(queries), 0, queries.shape[2])
    flat = micro.ops.join_turned(queries, none, none, micro.cos[picked], micro.sin[picked])
    above = product_backward(flat, inputs[picked], weights["qkv"][:split], own, micro, kept, sums)
    none = keys.new_empty(len(keys), 0, keys.shape[2])
    rest = micro.ops.join_turned(none, keys, values, micro.cos, micro.sin)
    down = product_backward(rest, inputs, weights["qkv"][split:], others, micro, kept, sums)
    assert above is not None and down is not None  # noqa: S101
    down[picked] += above
    residual = torch.zeros_like(hidden)
    residual[picked] = grad
    return micro.ops.norm_backward(down, hidden, layer.norms[0], layer.eps, residual)


def _split_loras(loras: list[Lora], split: int) -> tuple[list[Lora], list[Lora]]:
    """Pairs of the queries, and of keys and values with rows counted from the first key."""
    own = [lora for lora in loras if lora.stop <= split]
    rest = [
        Lora(x.a, x.b, x.start - split, x.stop - split, x.scale, x.dropout, x.number) for x in loras if x.start >= split
    ]
    return own, rest


def _dropped(inputs: Tensor, lora: Lora, micro: Micro, start: int) -> Tensor:
    if micro.seeds is None or lora.dropout == 0:
        return inputs
    return micro.ops.dropped(inputs, lora.dropout, micro.seeds[lora.number], start)


def _add_dropped(back: Tensor, pulled: Tensor, a: Tensor, lora: Lora, micro: Micro, start: int) -> Tensor:
    if micro.seeds is None or lora.dropout == 0:
        return back.addmm_(pulled, a)
    return micro.ops.add_dropped(back, pulled @ a, lora.dropout, micro.seeds[lora.number], start)
