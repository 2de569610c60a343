"""Preflight: how much memory a step will take, and the fastest way of working that fits the budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from candletune.config import TrainConfig
from candletune.errors import InputError

GIB = 2**30
MARGIN = 1.02
"""Estimates are multiplied by this: allocator rounding and small tensors."""
CARD_RESERVE = 0.25 * GIB
"""Left alone of what a card or a cap has: fragments and CUDA's own workspaces."""
LEAVING = 4
"""Feed-forward pieces on their way to host memory at once, with the one being computed."""
RECOMPUTED, FEED_FORWARD_SHARE = 0.74, 0.52
"""Share of a forward pass that recomputing a layer costs, and of the forward pass that gate and up cost (at 8B)."""
FOUR_BIT_BYTES = 0.516
"""NF4 with doubly quantized constants: 4 bits, and 8 bits a block of 64 with their own constants."""
TYPICAL, TYPICAL_PREFIX = (330, 45), 100
"""Tokens and answer tokens of an example under Ministral's tokenizer, and what all prompts share."""
EXPANSION = 900
"""Tokens whose forward pass takes as long as expanding the weights from 4 bits once each way (measured at 8B)."""


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
        chunk: most rows of the feed-forward part computed at once.
        aside: share of the other layers' feed-forward rows that wait in host memory instead of being computed again.
        peak: estimated bytes, model included.
        budget: bytes allowed.
    """

    micro_batch: int
    full_layers: int
    offload: bool
    host_embedding: bool
    resident: bool
    chunk: int
    aside: float = 0.0
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
                (self.aside > 0, f"{self.aside:.0%} of the feed-forward rows in host memory"),
                (self.host_embedding, "embedding in host memory"),
            )
            if on
        ]
        return (
            f"micro-batch {self.micro_batch}, {', '.join([kept, *extras])}; estimated peak {self.peak / GIB:.1f} GiB "
            f"of {self.budget / GIB:.1f}"
        )


def preview(found: Mapping[str, Any], config: TrainConfig, budget: float) -> Plan:
    """The plan that training would make, before any weight is loaded.

    Args:
        found: the base's config.json.
        config: training settings.
        budget: bytes allowed.

    Raises:
        InputError: not even one example fits.
    """
    heads, hidden = int(found["num_attention_heads"]), int(found["hidden_size"])
    shape = Shape(
        hidden=hidden,
        feed_forward=int(found["intermediate_size"]),
        heads=heads,
        kv_heads=int(found.get("num_key_value_heads") or heads),
        head_size=int(found.get("head_dim") or hidden // heads),
        layers=int(found["num_hidden_layers"]),
        vocabulary=int(found["vocab_size"]),
        item=2 if config.bf16 else 4,
        expand=config.quantization != "none",
    )
    bytes_a_weight = FOUR_BIT_BYTES if shape.expand else shape.item
    tables = 1 if found.get("tie_word_embeddings") else 2
    model = shape.layers * shape.layer_weights * bytes_a_weight + tables * embedding_bytes(shape)
    trained = config.lora_rank * len(config.target_modules) * shape.layers * (hidden + shape.feed_forward)
    return choose(
        shape,
        [TYPICAL] * config.effective_batch,
        TYPICAL_PREFIX,
        model=model,
        trained=trained,
        batch=config.effective_batch,
        budget=budget,
        wanted=config.batch_size,
    )


def pieces(tokens: int, chunk: int, aside: float) -> tuple[tuple[tuple[int, int], ...], int]:
    """Cut the tokens into pieces of at most `chunk` rows, none much smaller than another.

    Args:
        tokens: rows to cut.
        chunk: most rows of a piece.
        aside: share of the rows that are to lie in the first pieces.

    Returns:
        (start, stop) of each piece, and how many first pieces hold the share.
    """
    found: list[tuple[int, int]] = []
    first = round(tokens * aside)
    count = 0
    for start, stop in ((0, first), (first, tokens)):
        parts = -(-(stop - start) // chunk)
        edges = [start + (stop - start) * k // max(parts, 1) for k in range(parts + 1)]
        found += list(pairwise(edges))
        if start == 0 and stop == first:
            count = parts
    return tuple(found), count


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
    whole = max(plan.full_layers - 1, 0)  # the last layer is always kept: it works at the picked tokens only
    light = shape.layers - 1 - whole
    inputs = tokens * hidden * item
    attention = tokens * (2 * queries + 2 * keys + hidden) * item
    held: float = whole * (inputs + attention + tokens * 2 * shape.feed_forward * item)
    held += 2 * inputs
    held += 3 * inputs if plan.offload and light else light * inputs
    chunk = min(plan.chunk, tokens)
    row = 2 * shape.feed_forward * item
    leaving = attention + 2 * inputs + LEAVING * min(chunk, tokens * plan.aside) * row
    feed_forward = attention + 4 * inputs + chunk * 1.5 * row + tokens * plan.aside * row
    mixing = attention + 3 * inputs + 4 * spread * keys * item + 2 * spread * queries * item
    mixing += (tokens + 128 * plan.micro_batch) * queries * 4 + 2 * tokens * queries * item
    head = min(picked, 256) * shape.vocabulary * (2 * item + 12) + 4 * picked * hidden * item
    return MARGIN * (fixed + held + max(leaving, feed_forward, mixing, head))


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
    aside: float = 0.0,
) -> Plan:
    """The plan of least work that fits.

    Each micro-batch size is tried with nothing, the embedding, and the checkpoints too in host memory; what is left of
    the budget is spent on layers that need not be computed again.

    Args:
        shape: the model's.
        lengths: tokens to compute and answer tokens of each example.
        prefix: tokens all examples share.
        model: bytes of weights on the device.
        trained: trained parameters.
        batch: examples an optimizer step on this device.
        budget: bytes allowed.
        wanted: micro-batch to use; 0: whichever is fastest.
        recompute: whether layers may compute again what they did not keep.
        host: whether host memory may be used.
        aside: share of the feed-forward rows that host memory takes without slowing anything.

    Raises:
        InputError: not even one example fits.
    """
    own = [length - prefix for length, _ in lengths]

    def sized(plan: Plan) -> Plan:
        rows = min(plan.micro_batch, len(own))
        tokens = prefix + _most(own, rows)
        picked = _most([count for _, count in lengths], rows)
        spread = tokens + prefix * rows
        peak = estimate(shape, plan, model=model, trained=trained, tokens=tokens, spread=spread, picked=picked)
        return replace(plan, peak=peak, budget=budget)

    sizes = [min(wanted or batch, batch)]
    while sizes[-1] > 1 and not wanted:
        sizes.append(-(-sizes[-1] // 2))
    ways = [(False, False, 0.0), (True, False, 0.0), (True, True, 0.0), (True, True, aside)] if host else [(False,) * 3]
    start = 0 if recompute else shape.layers
    plans = [
        sized(
            Plan(micro, start, offload and recompute, embedding, False, chunk=4096, aside=share if recompute else 0.0)
        )
        for micro in sizes
        for embedding, offload, share in ways
    ]
    fitting = [_spend(plan, sized, shape) for plan in plans if plan.peak <= budget]
    if not fitting:
        least = min(plans, key=lambda plan: plan.peak)
        raise InputError(
            f"GPU memory: training needs about {least.peak / GIB:.1f} GiB at micro-batch {least.micro_batch}, "
            f"{budget / GIB:.1f} are free; close other programs, set train.batch_size lower or use a smaller base model"
        )
    mean = sum(own) / len(own)
    return min(fitting, key=lambda plan: work_of(plan, shape, batch, prefix, mean))


def _most(counts: Sequence[int], rows: int) -> int:
    """A sum of `rows` counts that random batches stay under: four deviations above the mean, at most the largest."""
    mean = sum(counts) / len(counts)
    deviation: float = (sum((count - mean) ** 2 for count in counts) / len(counts)) ** 0.5
    return min(sum(sorted(counts, reverse=True)[:rows]), round(rows * mean + 4 * deviation * float(rows**0.5)))


def work_of(plan: Plan, shape: Shape, batch: int, prefix: int, mean: float) -> float:
    """Work of a step in tokens and layers' forward passes; equal work prefers less in host memory."""
    passes = -(-batch // plan.micro_batch)
    light = shape.layers - plan.full_layers
    again = light * (RECOMPUTED - FEED_FORWARD_SHARE * plan.aside)
    expansion = 0 if plan.resident or not shape.expand else EXPANSION
    work = passes * shape.layers * expansion + (passes * prefix + batch * mean) * (2 * shape.layers + again)
    return work * (1 + 1e-4 * (plan.host_embedding + plan.offload))


def _spend(plan: Plan, sized: Callable[[Plan], Plan], shape: Shape) -> Plan:
    """Use what is left of the budget: layers kept whole, then expanded weights."""
    while plan.full_layers < shape.layers:
        more = sized(replace(plan, full_layers=plan.full_layers + 1))
        if more.peak > plan.budget:
            return plan
        plan = more
    if shape.expand:
        resident = sized(replace(plan, resident=True))
        if resident.peak <= plan.budget:
            return resident
    return plan


def budget_bytes(vram_gib: float | None, device: Any) -> float:
    """Bytes this process may hold on a device: the smallest of the setting, the process's cap and what is free."""
    import torch

    if device.type != "cuda":
        return (vram_gib or 1024.0) * GIB
    free, total = torch.cuda.mem_get_info(device)
    allowed: float = free + torch.cuda.memory_reserved(device)
    if hasattr(torch.cuda, "get_per_process_memory_fraction"):
        allowed = min(allowed, torch.cuda.get_per_process_memory_fraction(device) * total)
    allowed -= CARD_RESERVE
    return min(allowed, vram_gib * GIB) if vram_gib else allowed
