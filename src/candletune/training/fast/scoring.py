"""Decisions of many prompts under several adapters over one base: the training engine's forward pass, and no other.

Layer after layer goes over all adapters' rows, so that packed weights are expanded once a pass for all of them. What
every prompt begins with is computed once for each adapter, and its keys and values are kept. Symbols: see the package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from candletune.errors import OutOfMemory
from candletune.model_shape import ModelShape
from candletune.training.fast.layer import LayerPass, MicroBatch, forward_layer
from candletune.training.fast.ops import ops_for
from candletune.training.fast.packing import PackedBatch, pack, pack_behind
from candletune.training.fast.plan import MARGIN, chunks_of
from candletune.training.fast.weights import (
    STACKS,
    ExpandedWeights,
    LoraPair,
    Stack,
    compute_type,
    embed,
    head_rows,
    read_layer,
)

CHUNK = 4096
"""Rows of the feed-forward part computed at once."""
RESIDENT_SHARE = 0.25
"""Of the memory allowed: up to this, all layers' weights stay expanded."""
Loras = list[dict[str, list[LoraPair]]]
"""LoRA pairs of an adapter by layer and stack."""
Beginning = list[tuple[Tensor, Tensor]]
"""Keys and values (P, K, d) of each layer."""


class Lora(Protocol):
    """One adapted layer: A (rank, inputs), B (outputs, rank), and what multiplies B A."""

    @property
    def a(self) -> Tensor:
        """(rank, inputs)."""

    @property
    def b(self) -> Tensor:
        """(outputs, rank)."""

    @property
    def scale(self) -> float:
        """Of B A."""


@dataclass(frozen=True, slots=True)
class Question:
    """Prompts for one adapter; None: the bare base. `rows` are ids up to the decision token, n of them."""

    adapter: str | None
    rows: Sequence[Sequence[int]]


class DecisionPasses:
    """Scores decisions. One adapter's rows are cut into passes always in the same places, whatever else is asked.

    Args:
        model: a causal model of an architecture that `preflight.unsupported` lets through, without PEFT's layers.
        decisions: token ids of the decisions.
        device: where it lies.
        rows: rows of one adapter a pass; halved where memory runs out.
        budget: bytes allowed on the device.
        say: where notes go.
    """

    def __init__(
        self,
        model: Any,
        decisions: Sequence[int],
        device: torch.device,
        *,
        rows: int,
        budget: float,
        say: Callable[[str], None],
    ) -> None:
        self.decoder, self.head, self.rows, self.say = model.model, model.lm_head, rows, say
        self.decisions, self.device = tuple(decisions), device
        self.dtype = compute_type(self.decoder.embed_tokens)
        self.heads = (model.config.num_attention_heads, model.config.num_key_value_heads)
        self.layers = [read_layer(block, 0) for block in self.decoder.layers]
        weights = sum(
            p.in_features * p.out_features for layer in self.layers for q in layer.linears.values() for p in q
        )
        resident = weights * self.dtype.itemsize <= RESIDENT_SHARE * budget
        self.weights = ExpandedWeights(self.layers, self.dtype, resident=resident)
        self.ops, reason = ops_for(str(device))
        if reason:
            say(f"no Triton kernels, so scoring is about half as fast ({reason}); install triton and a C compiler")
        self._loras: dict[str | None, Loras] = {None: [{} for _ in self.layers]}
        self._begun: dict[str | None, tuple[tuple[int, ...], Beginning]] = {}

    def add(self, name: str, adapter: Mapping[str, Lora]) -> None:
        """Take an adapter's matrices, by the Hugging Face name of the layer that each adapts."""
        known: Loras = []
        for number, layer in enumerate(self.layers):
            stacks: dict[str, list[LoraPair]] = {}
            for stack, names in STACKS.items():
                part = "self_attn" if stack in ("qkv", "o") else "mlp"
                row = 0
                for place, (name_of_layer, linear) in enumerate(zip(names, layer.linears[stack], strict=True)):
                    stop = row + linear.out_features
                    found = adapter.get(f"model.layers.{number}.{part}.{name_of_layer}")
                    if found is not None:
                        a, b = (matrix.to(self.device) for matrix in (found.a, found.b))
                        pair = LoraPair(a, b, row, stop, found.scale, 0.0, 4 * list(STACKS).index(stack) + place)
                        stacks.setdefault(stack, []).append(pair)
                    row = stop
            known.append(stacks)
        self._loras[name] = known

    @torch.no_grad()
    def logits(self, questions: Sequence[Question], beginning: Sequence[int]) -> list[Tensor]:
        """Logits of the decisions behind every row, float64, (n, 3) for each question.

        Args:
            questions: what is asked, each of another adapter.
            beginning: what all rows begin with; at most all but their last ids.

        Raises:
            OutOfMemory: not even one row fits.
        """
        none = torch.zeros(0, len(self.decisions), dtype=torch.float64, device=self.device)
        parts: list[list[Tensor]] = [[none] for _ in questions]
        start = 0
        while any(start < len(question.rows) for question in questions):
            rows = self.rows
            asked = [replace(question, rows=question.rows[start : start + rows]) for question in questions]
            try:
                found = self._pass(asked, tuple(beginning))
            except torch.OutOfMemoryError:
                self._halve()
                continue
            for place, more in found.items():
                parts[place].append(more)
            start += rows
        return [torch.cat(known).cpu() for known in parts]  # waits for the card, which was never idle until now

    def _halve(self) -> None:
        self.weights.release()
        torch.cuda.empty_cache()
        if self.rows == 1:
            raise OutOfMemory("one prompt does not fit the card; close other programs, or set replay.engine=llama.cpp")
        self.rows = -(-self.rows // 2)
        self.weights.resident = False
        self.say(f"out of GPU memory: going on with {self.rows} prompts of a model a pass")

    def _pass(self, questions: Sequence[Question], beginning: tuple[int, ...]) -> dict[int, Tensor]:
        """All questions' rows through all layers; by number those that have rows."""
        numbers = [number for number, question in enumerate(questions) if question.rows]
        asked = [questions[number] for number in numbers]
        before = [self._beginning(question.adapter, beginning) for question in asked]
        packed = [pack_behind(question.rows, len(beginning), self.device) for question in asked]
        batches = [self._batch(one) for one in packed]
        hidden = [embed(self.decoder.embed_tokens, one.ids, self.device) for one in packed]
        for number in range(len(self.layers)):
            stacks = self.weights.stacks(number)
            for place, question in enumerate(asked):
                step = self._step(
                    number, self._adapted(stacks, question.adapter, number), packed[place], batches[place]
                )
                if beginning:
                    step = replace(step, before=before[place][number])
                hidden[place], _ = forward_layer(step, hidden[place])
        return {number: self._decided(states) for number, states in zip(numbers, hidden, strict=True)}

    def _beginning(self, adapter: str | None, ids: tuple[int, ...]) -> Beginning:
        """Keys and values of the beginning under an adapter, computed when it is first asked for."""
        known = self._begun.get(adapter)
        if known is None or known[0] != ids:
            known = self._begun[adapter] = (ids, self._read(adapter, ids) if ids else [])
        return known[1]

    def _read(self, adapter: str | None, ids: tuple[int, ...]) -> Beginning:
        packed = pack([ids], [1], self.device)
        batch = self._batch(packed)
        hidden = embed(self.decoder.embed_tokens, packed.ids, self.device)
        found: Beginning = []
        for number in range(len(self.layers)):
            stacks = self._adapted(self.weights.stacks(number), adapter, number)
            hidden, saved = forward_layer(self._step(number, stacks, packed, batch), hidden, keep=True)
            assert saved.attention is not None  # noqa: S101
            _, keys, values = saved.attention.inputs
            found.append((keys.detach().clone(), values.detach().clone()))
        return found

    def _adapted(self, stacks: dict[str, Stack], adapter: str | None, number: int) -> dict[str, Stack]:
        loras = self._loras[adapter][number]
        return {name: replace(stack, loras=loras.get(name, [])) for name, stack in stacks.items()}

    def _step(self, number: int, stacks: dict[str, Stack], packed: PackedBatch, batch: MicroBatch) -> LayerPass:
        last = number == len(self.layers) - 1
        segments = packed.last_segments if last else packed.segments
        return LayerPass(self.layers[number], stacks, batch, segments, packed.target_index if last else None)

    def _batch(self, packed: PackedBatch) -> MicroBatch:
        probe = torch.empty(0, dtype=self.dtype, device=self.device)
        cos, sin = self.decoder.rotary_emb(probe, packed.positions[None])
        chunks, _ = chunks_of(packed.tokens, CHUNK, 0.0)
        return MicroBatch(self.ops, cos[0], sin[0], *self.heads, None, chunks)

    def _decided(self, hidden: Tensor) -> Tensor:
        norm = self.decoder.norm
        states = self.ops.rms_norm(hidden, norm.weight, norm.variance_epsilon)
        return (states @ head_rows(self.head, self.decisions, self.dtype).t()).double()


def rows_that_fit(shape: ModelShape, file_bytes: float, item: int, *, tokens: int, budget: float, most: int) -> int:
    """Rows of one adapter a pass that a budget holds, by what a pass takes at its peak; 0: not even one.

    Args:
        shape: the base's sizes.
        file_bytes: of its GGUF, which stays packed.
        item: bytes of a number of the compute type.
        tokens: of the longest row.
        budget: bytes allowed.
        most: rows at most; two adapters' hidden states are counted.
    """
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    layer = shape.hidden * (2 * queries + 2 * keys + 3 * shape.feed_forward) * item
    rows = most
    while rows:
        count = rows * tokens
        wide = count * (8 * shape.hidden + 3 * queries + 6 * keys) + min(count, CHUNK) * 3 * shape.feed_forward
        if MARGIN * (file_bytes + layer + wide * item + 4.0 * count * queries) <= budget:
            return rows
        rows //= 2
    return 0
