"""CUDA graphs of whole micro-batches: one launch where a small model needs some thousands.

With some hundred million weights a kernel is done before the host has launched the next one, and the host is all that a
step waits for. A CUDA graph launches the kernels of a forward and backward pass at once, but always with the shapes and
addresses it was recorded with. So a micro-batch is padded to sizes that come again, by one row behind the others whose
targets weigh nothing: the loss, the gradients and the dropout masks of the others stay what they were.

A size that is met for the first time is computed the usual way (kernels are compiled then), recorded when it is met
again, and replayed from then on. Symbols and shapes: see the package.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from candletune.base.chat import common_prefix
from candletune.training.examples import TokenizedExample
from candletune.training.fast.packing import LossTerms, PackedBatch, Segments, loss_terms, pack, training_rows
from candletune.training.utility import DecisionTerms

TOKEN_STEP, TARGET_STEP, LENGTH_STEP = 256, 64, 128
"""Packed tokens, targets (and terms of the loss) and the longest segment are rounded up to multiples of these."""
MAX_GRAPHS = 32
"""Sizes that are recorded; what is rarer is computed the usual way."""

Size = tuple[int, ...]
Work = Callable[[PackedBatch, LossTerms, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """A micro-batch padded to a size that comes again.

    Attributes:
        packed: its rows and one row of padding; the longest segments are rounded up, too.
        terms: the loss; terms of padding weigh nothing.
        size: what must be equal for two batches to share a graph.
    """

    packed: PackedBatch
    terms: LossTerms
    size: Size

    def tensors(self) -> list[Tensor]:
        """Everything that differs between two batches of one size, in a fixed order."""
        packed = self.packed
        found: list[Tensor | None] = [packed.ids, packed.positions, packed.target_index, *self.terms.tensors()]
        for part in (packed.segments, packed.last_segments):
            found += [part.cu_queries, part.cu_keys, part.key_index, part.own_index, part.prefix_index]
        return [tensor for tensor in found if tensor is not None]

    def to(self, device: torch.device) -> "PaddedBatch":
        """A copy on a device."""
        packed = self.packed

        def moved(part: Segments) -> Segments:
            indices = (part.key_index, part.own_index, part.prefix_index)
            key, own, prefix = (None if index is None else index.to(device) for index in indices)
            cumulated = part.cu_queries.to(device), part.cu_keys.to(device)
            return Segments(part.queries, part.keys, *cumulated, key, own, prefix)

        copied = PackedBatch(
            ids=packed.ids.to(device),
            positions=packed.positions.to(device),
            prefix=packed.prefix,
            segments=moved(packed.segments),
            last_segments=moved(packed.last_segments),
            target_index=packed.target_index.to(device),
        )
        return PaddedBatch(copied, self.terms.to(device), self.size)


def pad(examples: Sequence[TokenizedExample]) -> PaddedBatch:
    """Pack examples with one row of padding behind them, on the host."""
    rows, counts = training_rows(examples)
    prefix = 0
    if len(rows) > 1:
        prefix = min(common_prefix(rows), min(len(row) - count for row, count in zip(rows, counts, strict=True)))
    tokens = prefix + sum(len(row) - prefix for row in rows)
    targets = _round_up(sum(counts) + 1, TARGET_STEP) - sum(counts)
    filler = _round_up(tokens + targets, TOKEN_STEP) - tokens
    other = 0 if rows[0][prefix] else 1  # differs from what follows the prefix, so that the prefix stays as long
    packed = pack([*rows, (*rows[0][:prefix], *(other,) * filler)], [*counts, targets], torch.device("cpu"))
    terms = _padded_terms(loss_terms(examples), len(packed.target_index) - 1)
    longest = [
        _round_up(max(lengths), LENGTH_STEP)
        for part in (packed.segments, packed.last_segments)
        for lengths in (part.queries, part.keys)
    ]
    size = (
        len(rows),
        prefix,
        packed.tokens,
        len(packed.target_index),
        len(terms.positions),
        len(terms.decisions.positions),
        *longest,
    )
    return PaddedBatch(packed, terms, size)


def _padded_terms(terms: LossTerms, last: int) -> LossTerms:
    """Terms up to a multiple of `TARGET_STEP`; those of padding weigh nothing and ask the last target position."""

    def padded(tensors: Sequence[Tensor]) -> list[Tensor]:
        missing = _round_up(len(tensors[0]), TARGET_STEP) - len(tensors[0])
        fill = [last, *[0] * (len(tensors) - 1)]
        return [torch.cat([t, t.new_full((missing, *t.shape[1:]), f)]) for t, f in zip(tensors, fill, strict=True)]

    positions, targets, weights = padded(terms[:3])
    return LossTerms(positions, targets, weights, DecisionTerms(*padded(terms.decisions)))


class PassGraphs:
    """Graphs of an engine's passes, one a size.

    Args:
        work: forward and backward of a packed batch with its loss terms and dropout seeds: returns the loss and adds
            the gradients where they always go.
        device: a CUDA device.
        say: told when graphs are given up.
    """

    def __init__(self, work: Work, device: torch.device, say: Callable[[str], None]) -> None:
        self.work, self.device, self.say = work, device, say
        self._inputs: dict[Size, tuple[PaddedBatch, Tensor | None]] = {}
        self._graphs: dict[Size, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self.refused = False

    def run(self, examples: Sequence[TokenizedExample], seeds: Tensor | None) -> Tensor:
        """Loss of a micro-batch; its gradients are added by the way."""
        padded = pad(examples)
        size = (*padded.size, int(seeds is None))
        if size not in self._inputs:
            batch = _bounded(padded).to(self.device)
            if not self.refused and len(self._inputs) < MAX_GRAPHS:
                self._inputs[size] = batch, None if seeds is None else seeds.clone()
            return self.work(batch.packed, batch.terms, seeds)
        batch, own_seeds = self._inputs[size]
        for target, source in zip(batch.tensors(), padded.tensors(), strict=True):
            target.copy_(source)
        if own_seeds is not None and seeds is not None:
            own_seeds.copy_(seeds)
        if size not in self._graphs and not self.refused:
            self._record(size)
        if size not in self._graphs:
            return self.work(batch.packed, batch.terms, own_seeds)
        graph, total = self._graphs[size]
        graph.replay()
        return total

    def _record(self, size: Size) -> None:
        """Record the pass of a size, which computes nothing yet."""
        batch, seeds = self._inputs[size]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                total = self.work(batch.packed, batch.terms, seeds)
        except RuntimeError as error:  # out of memory is one, too; the usual way needs less
            self.refused = True
            self.say(f"no CUDA graphs, so a small model trains slower ({' '.join(str(error).split())[:120]})")
            return
        self._graphs[size] = graph, total


def _bounded(padded: PaddedBatch) -> PaddedBatch:
    """Segments that say no more than their rounded longest: all that flash attention asks on the host."""
    bounds = padded.size[-4:]
    packed = replace(
        padded.packed,
        segments=replace(padded.packed.segments, queries=bounds[:1], keys=bounds[1:2]),
        last_segments=replace(padded.packed.last_segments, queries=bounds[2:3], keys=bounds[3:]),
    )
    return replace(padded, packed=packed)


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step
