"""Preflight: how much memory a step will take, and the fastest way of working that fits the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from candletune.errors import InputError

GIB = 2**30
MARGIN = 1.04
"""Estimates are multiplied by this: allocator rounding and small tensors."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a causal model; `item` is the compute type's bytes, `expand` whether weights are 4-bit."""

    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    layers: int
    vocabulary: int
    item: int
    expand: bool

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's linear parts."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return self.hidden * (2 * queries + 2 * keys + 3 * self.feed_forward)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a step is worked through.

    Attributes:
        micro_batch: examples a pass.
        full_layers: layers that keep everything backward needs; the others compute it again.
        offload: whether the other layers' inputs wait in host memory.
        host_embedding: whether the embedding table lies in host memory.
        resident: whether all layers' weights stay expanded.
        chunk: rows of the feed-forward part computed at once.
        peak: estimated bytes, model included.
        budget: bytes allowed.
    """

    micro_batch: int
    full_layers: int
    offload: bool
    host_embedding: bool
    resident: bool
    chunk: int
    peak: float = 0.0
    budget: float = 0.0

    def describe(self) -> str:
        """One line for people."""
        kept = f"{self.full_layers} layers without recomputing" if self.full_layers else "every layer recomputed"
        extras = [
            text
            for on, text in (
                (self.resident, "weights kept expanded"),
                (self.offload, "checkpoints in host memory"),
                (self.host_embedding, "embedding in host memory"),
            )
            if on
        ]
        return (
            f"micro-batch {self.micro_batch}, {', '.join([kept, *extras])}; estimated peak {self.peak / GIB:.1f} GiB "
            f"of {self.budget / GIB:.1f}"
        )


def embedding_bytes(shape: Shape) -> int:
    """Size of the embedding table."""
    return shape.vocabulary * shape.hidden * shape.item


def estimate(shape: Shape, plan: Plan, *, model: float, trained: int, tokens: int, spread: int, picked: int) -> float:
    """Bytes at the peak of a step.

    Args:
        shape: the model's.
        plan: way of working.
        model: bytes of weights on the device, embedding included.
        trained: trained parameters.
        tokens: packed tokens of the largest micro-batch.
        spread: keys of all its segments.
        picked: answer tokens of it.
    """
    item, hidden = shape.item, shape.hidden
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    fixed = model - (embedding_bytes(shape) if plan.host_embedding else 0)
    fixed += trained * (4 + 4 + 2)
    expanded = shape.layer_weights * item
    fixed += expanded * (shape.layers if plan.resident else 1)
    light = shape.layers - plan.full_layers
    inputs = tokens * hidden * item
    attention = tokens * (2 * queries + 2 * keys + hidden) * item
    held = plan.full_layers * (inputs + attention + tokens * 2 * shape.feed_forward * item)
    held += 3 * inputs if plan.offload and light else light * inputs
    chunk = min(plan.chunk, tokens)
    feed_forward = attention + 4 * inputs + chunk * 6 * shape.feed_forward * item
    mixing = attention + 3 * inputs + 4 * spread * keys * item + 2 * spread * queries * item
    mixing += (tokens + 128 * plan.micro_batch) * queries * 4 + 2 * tokens * queries * item
    head = min(picked, 256) * shape.vocabulary * (2 * item + 12) + 4 * picked * hidden * item
    return MARGIN * (fixed + held + max(feed_forward, mixing, head))


def choose(
    shape: Shape,
    lengths: Sequence[tuple[int, int]],
    prefix: int,
    *,
    model: float,
    trained: int,
    batch: int,
    budget: float,
    wanted: int = 0,
    recompute: bool = True,
    host: bool = True,
) -> Plan:
    """The fastest plan that fits.

    The whole batch at once comes first (each pass expands the weights again), then what is free of work: the
    embedding and the checkpoints in host memory. What is left is spent on layers that need not be computed again.

    Args:
        shape: the model's.
        lengths: packed and answer tokens of each example.
        prefix: tokens all examples share.
        model: bytes of weights on the device.
        trained: trained parameters.
        batch: examples an optimizer step on this device.
        budget: bytes allowed.
        wanted: micro-batch to use; 0: the largest that fits.
        recompute: whether layers may compute again what they did not keep.
        host: whether host memory may be used.

    Raises:
        InputError: not even one example fits.
    """

    def sized(plan: Plan) -> Plan:
        own = sorted((length - prefix for length, _ in lengths), reverse=True)[: plan.micro_batch]
        picked = sum(sorted((count for _, count in lengths), reverse=True)[: plan.micro_batch])
        tokens = prefix + sum(own)
        spread = tokens + prefix * len(own)
        peak = estimate(shape, plan, model=model, trained=trained, tokens=tokens, spread=spread, picked=picked)
        return replace(plan, peak=peak, budget=budget)

    micro = min(wanted or batch, batch)
    smallest = None
    while micro:
        for host_embedding, offload in ((False, False), (True, False), (True, True)) if host else ((False, False),):
            start = 0 if recompute else shape.layers
            plan = sized(Plan(micro, start, offload and recompute, host_embedding, False, chunk=4096))
            smallest = plan
            if plan.peak <= budget:
                return _spend(plan, sized, shape)
        if wanted:
            break
        micro = 0 if micro == 1 else -(-micro // 2)
    assert smallest is not None  # noqa: S101
    raise InputError(
        f"GPU memory: training needs about {smallest.peak / GIB:.1f} GiB at micro-batch {smallest.micro_batch}, "
        f"{budget / GIB:.1f} are free; close other programs, set train.batch_size lower or use a smaller base model"
    )


def _spend(plan: Plan, sized: Any, shape: Shape) -> Plan:
    """Use what is left of the budget: layers kept whole, then expanded weights."""
    while plan.full_layers < shape.layers:
        more: Plan = sized(replace(plan, full_layers=plan.full_layers + 1))
        if more.peak > plan.budget:
            return plan
        plan = more
    if shape.expand:
        resident: Plan = sized(replace(plan, resident=True))
        if resident.peak <= plan.budget:
            return resident
    return plan


def budget_bytes(vram_gib: float | None, device: Any) -> float:
    """Bytes this process may hold on a device: the smallest of the setting, the process's cap and what is free."""
    import torch

    if device.type != "cuda":
        return (vram_gib or 1024.0) * GIB
    free, total = torch.cuda.mem_get_info(device)
    allowed = free + torch.cuda.memory_reserved(device) - 0.25 * GIB
    if hasattr(torch.cuda, "get_per_process_memory_fraction"):
        allowed = min(allowed, torch.cuda.get_per_process_memory_fraction(device) * total)
    return min(allowed, vram_gib * GIB) if vram_gib else allowed
