"""Preflight: how much memory a step will take, and the fastest way of working that fits the budget.

Symbols: see the package.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

from candletune.base.memory import card_budget
from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.model_shape import ModelShape

GIB = 2**30
MARGIN = 1.02
"""Estimates are multiplied by this: allocator rounding and small tensors."""
IN_FLIGHT = 4
"""Feed-forward chunks on their way to host memory at once, with the one being computed."""
RECOMPUTED, FEED_FORWARD_SHARE = 0.74, 0.52
"""Share of a forward pass that recomputing a layer costs, and of the forward pass that gate and up cost (at 8B)."""
HEAD_PARTS = 8
"""Parts in which a packed head is expanded where memory is short."""
FOUR_BIT_BYTES = 0.516
"""NF4 with doubly quantized constants: 4 bits, and 8 bits a block of 64 with their own constants."""
TYPICAL, TYPICAL_PREFIX = (330, 45), 100
"""Tokens and answer tokens of an example under Ministral's tokenizer, and what all prompts share."""
GRAPH_WORK = 1.2e12
"""Weights of a layer times tokens of a pass up to which CUDA graphs gain: a longer one keeps the GPU busy while the
host launches. Measured: 0.26 of the time at 3e10 (135M), 0.81 at 5e11 (1B), 0.96 at 9.5e11 (8B, 16 examples), 1.02 at
1.8e12 (8B, 32 examples)."""
EXPANSION = 900
"""Tokens whose forward pass takes as long as expanding the weights from 4 bits once each way (measured at 8B)."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What the plan must know of a causal model: its sizes, and the types it lies and computes in.

    `item` is the compute type's bytes, `expand` whether weights are packed, `head_norms` whether each head of queries
    and keys is normalised, `packed_table` the bytes of an embedding in GGUF blocks, whose head is expanded for each
    micro-batch, whole or in parts (0: embedding and head are numbers of the compute type), `tied` whether the embedding
    is the head, too, and so stays on the device.
    """

    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    layers: int
    vocabulary: int
    item: int
    expand: bool
    head_norms: bool = False
    packed_table: float = 0.0
    tied: bool = False

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's linear parts."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return self.hidden * (2 * queries + 2 * keys + 3 * self.feed_forward)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What is on the device whatever the plan: bytes of weights, embedding included, and trained parameters."""

    model: float
    trained: int


@dataclass(frozen=True, slots=True)
class Workload:
    """The examples that a plan is made for.

    Attributes:
        lengths: tokens to compute and answer tokens of each example.
        prefix: P, tokens that all examples share.
        batch: examples an optimizer step on this device.
    """

    lengths: Sequence[tuple[int, int]]
    prefix: int
    batch: int

    def largest(self, micro_batch: int) -> "BatchSize":
        """Sizes that random micro-batches stay under."""
        rows = min(micro_batch, len(self.lengths))
        tokens = self.prefix + _most([length - self.prefix for length, _ in self.lengths], rows)
        targets = _most([count for _, count in self.lengths], rows)
        return BatchSize(tokens, tokens + self.prefix * rows, targets)


@dataclass(frozen=True, slots=True)
class BatchSize:
    """T, S and A of a micro-batch: packed tokens, gathered keys, target positions."""

    tokens: int
    keys: int
    targets: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may use.

    Attributes:
        budget: bytes allowed.
        micro_batch: micro-batch to use; 0: whichever is fastest.
        recompute: whether layers may compute again what they did not keep.
        host: whether host memory may be used.
        offload_share: share of the feed-forward rows that host memory takes without slowing anything.
        graphs: whether the device can record CUDA graphs of this model's passes.
    """

    budget: float
    micro_batch: int = 0
    recompute: bool = True
    host: bool = True
    offload_share: float = 0.0
    graphs: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a step is worked through.

    Attributes:
        micro_batch: examples a pass.
        full_layers: layers that keep everything backward needs; the others compute it again.
        offload_inputs: whether the other layers' inputs wait in host memory.
        host_embedding: whether the embedding table lies in host memory.
        resident: whether all layers' weights stay expanded.
        chunk: most rows of the feed-forward part computed at once.
        offload_share: share of the other layers' feed-forward rows that wait in host memory instead of being computed
            again.
        peak: estimated bytes, model included.
        budget: bytes allowed.
        graphs: whether passes are recorded as CUDA graphs (see `graphs`).
    """

    micro_batch: int
    full_layers: int
    offload_inputs: bool
    host_embedding: bool
    resident: bool
    chunk: int
    offload_share: float = 0.0
    peak: float = 0.0
    budget: float = 0.0
    graphs: bool = False

    @property
    def head_parts(self) -> int:
        """Parts in which a packed head is expanded: whole where the layers' weights stay expanded, too."""
        return 1 if self.resident else HEAD_PARTS

    def describe(self) -> str:
        """One line for people."""
        kept = f"{self.full_layers} layers without recomputing" if self.full_layers else "every layer recomputed"
        extras = [
            text
            for on, text in (
                (self.resident, "weights kept expanded"),
                (self.offload_inputs, "checkpoints in host memory"),
                (self.offload_share > 0, f"{self.offload_share:.0%} of the feed-forward rows in host memory"),
                (self.host_embedding, "embedding in host memory"),
                (self.graphs, "CUDA graphs"),
            )
            if on
        ]
        return (
            f"micro-batch {self.micro_batch}, {', '.join([kept, *extras])}; estimated peak {self.peak / GIB:.1f} GiB "
            f"of {self.budget / GIB:.1f}"
        )


def preview(base: ModelShape, config: TrainConfig, budget: float, *, packed: float | None = None) -> Plan:
    """The plan that training would make, before any weight is loaded.

    Args:
        base: architecture and sizes, from the base's config.json.
        config: training settings.
        budget: bytes allowed.
        packed: bytes of the GGUF whose blocks are trained over; none: `train.quantization` alone says how weights lie.

    Raises:
        InputError: not even one example fits.
    """
    sizes = ModelSizes(
        hidden=base.hidden,
        feed_forward=base.feed_forward,
        heads=base.heads,
        kv_heads=base.kv_heads,
        head_size=base.head_size,
        layers=base.layers,
        vocabulary=base.vocabulary,
        item=2 if config.bf16 else 4,
        expand=config.quantization != "none",
        head_norms=base.architecture.head_norms,
        tied=base.tied,
    )
    if packed is not None:
        sizes = replace(sizes, packed_table=packed * base.vocabulary * base.hidden / base.parameters)
    bytes_a_weight = FOUR_BIT_BYTES if sizes.expand else sizes.item
    tables = 1 if base.tied else 2
    footprint = Footprint(
        model=packed or sizes.layers * sizes.layer_weights * bytes_a_weight + tables * embedding_bytes(sizes),
        trained=config.lora_rank * len(config.target_modules) * sizes.layers * (sizes.hidden + sizes.feed_forward),
    )
    workload = Workload([TYPICAL] * config.effective_batch, TYPICAL_PREFIX, config.effective_batch)
    return choose_plan(sizes, workload, footprint, Limits(budget, config.batch_size))


def chunks_of(tokens: int, chunk: int, share: float) -> tuple[tuple[tuple[int, int], ...], int]:
    """Cut the tokens into chunks of at most `chunk` rows, none much smaller than another.

    Args:
        tokens: rows to cut.
        chunk: most rows of a chunk.
        share: share of the rows that are to lie in the first chunks.

    Returns:
        (start, stop) of each chunk, and how many first chunks hold the share.
    """
    chunks: list[tuple[int, int]] = []
    first = round(tokens * share)
    count = 0
    for start, stop in ((0, first), (first, tokens)):
        parts = -(-(stop - start) // chunk)
        edges = [start + (stop - start) * k // max(parts, 1) for k in range(parts + 1)]
        chunks += list(pairwise(edges))
        if start == 0 and stop == first:
            count = parts
    return tuple(chunks), count


def embedding_bytes(sizes: ModelSizes) -> int:
    """Size of the embedding table, or of the head, in the compute type."""
    return sizes.vocabulary * sizes.hidden * sizes.item


def estimate(sizes: ModelSizes, plan: Plan, footprint: Footprint, size: BatchSize) -> float:
    """Bytes at the peak of a step whose largest micro-batch has the given size."""
    item, hidden, tokens = sizes.item, sizes.hidden, size.tokens
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
    table = embedding_bytes(sizes)
    fixed = footprint.model - ((sizes.packed_table or table) if plan.host_embedding else 0)
    fixed += footprint.trained * (4 + 4 + 2)
    expanded = sizes.layer_weights * item
    fixed += expanded * (sizes.layers if plan.resident else 1)
    whole = max(plan.full_layers - 1, 0)  # the last layer is always kept: it works at the target positions only
    light = sizes.layers - 1 - whole
    inputs = tokens * hidden * item
    attention = tokens * (2 * queries + 2 * keys + hidden) * item
    if sizes.head_norms:  # queries and keys before their norms
        attention += tokens * (queries + keys) * item
    saved: float = whole * (inputs + attention + tokens * 2 * sizes.feed_forward * item)
    saved += 2 * inputs
    saved += 3 * inputs if plan.offload_inputs and light else light * inputs
    chunk = min(plan.chunk, tokens)
    row = 2 * sizes.feed_forward * item
    outgoing = attention + 2 * inputs + IN_FLIGHT * min(chunk, tokens * plan.offload_share) * row
    feed_forward = attention + 4 * inputs + chunk * 1.5 * row + tokens * plan.offload_share * row
    attending = attention + 3 * inputs + 4 * size.keys * keys * item + 2 * size.keys * queries * item
    attending += (tokens + 128 * plan.micro_batch) * queries * 4 + 2 * tokens * queries * item
    head: float = min(size.targets, 256) * sizes.vocabulary * (2 * item + 12) + 4 * size.targets * hidden * item
    head += table / plan.head_parts if sizes.packed_table else 0
    return MARGIN * (fixed + saved + max(outgoing, feed_forward, attending, head))


def choose_plan(sizes: ModelSizes, workload: Workload, footprint: Footprint, limits: Limits) -> Plan:
    """The plan of least work that fits.

    Each micro-batch size is tried with nothing, the embedding, and the checkpoints too in host memory; what is left of
    the budget is spent on layers that need not be computed again.

    Raises:
        InputError: not even one example fits.
    """

    largest = cache(workload.largest)

    def estimated(plan: Plan) -> Plan:
        peak = estimate(sizes, plan, footprint, largest(plan.micro_batch))
        return replace(plan, peak=peak, budget=limits.budget)

    batch, recompute = workload.batch, limits.recompute
    counts = [min(limits.micro_batch or batch, batch)]
    while counts[-1] > 1 and not limits.micro_batch:
        counts.append(-(-counts[-1] // 2))
    host_uses = [(False, False, 0.0)]
    if limits.host:
        moved = not sizes.tied
        host_uses += [(moved, False, 0.0), (moved, True, 0.0), (moved, True, limits.offload_share)]
    start = 0 if recompute else sizes.layers
    plans = [
        estimated(Plan(micro, start, inputs and recompute, embedding, False, 4096, share if recompute else 0.0))
        for micro in counts
        for embedding, inputs, share in host_uses
    ]
    fitting = [_spend_rest(plan, estimated, sizes) for plan in plans if plan.peak <= limits.budget]
    if not fitting:
        least = min(plans, key=lambda plan: plan.peak)
        raise InputError(
            f"GPU memory: training needs about {least.peak / GIB:.1f} GiB at micro-batch {least.micro_batch}, "
            f"{limits.budget / GIB:.1f} are free; close other programs, set train.batch_size lower or use a smaller "
            "base model"
        )
    best = min(fitting, key=lambda plan: work_of(plan, sizes, workload))
    short = sizes.layer_weights * largest(best.micro_batch).tokens <= GRAPH_WORK
    as_it_lies = best.full_layers == sizes.layers and not best.host_embedding
    # the recorded passes hold memory of their own, beside that of evaluations
    return replace(best, graphs=limits.graphs and short and as_it_lies and 2 * best.peak <= limits.budget)


def _most(counts: Sequence[int], rows: int) -> int:
    """A sum of `rows` counts that random batches stay under: four deviations above the mean, at most the largest."""
    mean = sum(counts) / len(counts)
    deviation: float = (sum((count - mean) ** 2 for count in counts) / len(counts)) ** 0.5
    return min(sum(sorted(counts, reverse=True)[:rows]), round(rows * mean + 4 * deviation * float(rows**0.5)))


def work_of(plan: Plan, sizes: ModelSizes, workload: Workload) -> float:
    """Work of a step in tokens and layers' forward passes; equal work prefers less in host memory."""
    passes = -(-workload.batch // plan.micro_batch)
    own = sum(length - workload.prefix for length, _ in workload.lengths) / len(workload.lengths)
    light = sizes.layers - plan.full_layers
    again = light * (RECOMPUTED - FEED_FORWARD_SHARE * plan.offload_share)
    expansion = 0 if plan.resident or not sizes.expand else EXPANSION
    work: float = passes * sizes.layers * expansion
    work += (passes * workload.prefix + workload.batch * own) * (2 * sizes.layers + again)
    return work * (1 + 1e-4 * (plan.host_embedding + plan.offload_inputs))


def _spend_rest(plan: Plan, estimated: Callable[[Plan], Plan], sizes: ModelSizes) -> Plan:
    """Use what is left of the budget: layers kept whole, then expanded weights."""
    while plan.full_layers < sizes.layers:
        more = estimated(replace(plan, full_layers=plan.full_layers + 1))
        if more.peak > plan.budget:
            return plan
        plan = more
    if sizes.expand:
        resident = estimated(replace(plan, resident=True))
        if resident.peak <= plan.budget:
            return resident
    return plan


def budget_bytes(vram_gib: float | None, device: Any) -> float:
    """Bytes this process may hold on a device: the smallest of the setting, the process's cap and what is free."""
    return card_budget(vram_gib, device) if device.type == "cuda" else (vram_gib or 1024.0) * GIB
