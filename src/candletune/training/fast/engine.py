"""The fast engine: a step's loss and LoRA gradients by hand, exact, without padding, float32 copies or wasted work.

What every row begins with is computed once; the last layer works only where an answer token is predicted; logits exist
only there, some hundred rows at a time; packed weights are expanded once a layer and pass; layers keep as much for
backward as the memory plan allows. On out-of-memory the step is repeated with half the micro-batch, and said.
Symbols and shapes: see the package. The gradients are derived in `layer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.errors import InputError
from candletune.training.engine import loss_with_gradients
from candletune.training.examples import TokenizedExample
from candletune.training.fast.graphs import PassGraphs
from candletune.training.fast.layer import (
    LayerPass,
    MicroBatch,
    SavedActivations,
    backward_layer,
    forward_layer,
)
from candletune.training.fast.offload import ActivationOffload
from candletune.training.fast.ops import cross_entropy_grad, decisions_grad, ops_for
from candletune.training.fast.packing import LossTerms, PackedBatch, loss_terms, pack, training_rows
from candletune.training.fast.plan import Plan, chunks_of
from candletune.training.fast.preflight import shape_of, unwrapped
from candletune.training.fast.weights import (
    ExpandedWeights,
    GradientSums,
    HeadProduct,
    Layer,
    compute_type,
    embed,
    head_rows,
    kernels_missing,
    read_layer,
)

HEAD_ROWS = 256
"""Rows of logits made at once."""
LAYER_INPUT = -1
"""Offloaded part of a layer that is its input; the others are chunks of its feed-forward part."""


class FastEngine:
    """A `TrainingEngine` over a PEFT-wrapped model taken apart, worked through by a memory plan."""

    name = "fast"
    checkpointing = False

    def __init__(self, model: Any, plan: Plan, *, say: Callable[[str], None], call_size: int | None = None) -> None:
        self.model, self.plan, self.say = model, plan, say
        self.call_size = call_size or plan.micro_batch
        inner = unwrapped(model)
        self.decoder, self.head = inner.model, inner.lm_head
        self.dtype = compute_type(self.decoder.embed_tokens)
        self.shape = shape_of(model)
        self.layers: list[Layer] = []
        count = 0
        for block in self.decoder.layers:
            self.layers.append(read_layer(block, count))
            count += sum(len(pairs) for pairs in self.layers[-1].loras.values())
        self.pairs = count
        self.parameters = [
            p for layer in self.layers for pairs in layer.loras.values() for pair in pairs for p in (pair.a, pair.b)
        ]
        self.device = self.parameters[0].device
        self.ops, reason = ops_for(str(self.device))
        if reason := reason or kernels_missing(self.layers):
            say(f"no Triton kernels, so training is about half as fast ({reason}); install triton and a C compiler")
        self.weights = ExpandedWeights(self.layers, self.dtype, resident=plan.resident)
        self.offload = ActivationOffload(self.device)
        self._sums: GradientSums | None = None
        self._graphs: PassGraphs | None = None
        self._addresses: tuple[int, ...] = ()
        self._place_embedding()

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """Sum of weighted token losses (with gradients, whose work is already done) and the sum of the weights.

        Raises:
            InputError: not even one example fits the memory.
        """
        seed = int(torch.randint(2**31 - 1, (1,)))
        total, grads = self.gradients(examples, seed)
        weight = sum(sum(example.weights) for example in examples)
        return loss_with_gradients(total, grads, self.parameters), float(weight)

    def gradients(self, examples: Sequence[TokenizedExample], seed: int) -> tuple[Tensor, list[Tensor]]:
        """Sum of weighted token losses and its float32 gradients, in the order of `parameters`.

        Args:
            examples: one step's examples.
            seed: of the dropout masks.

        Raises:
            InputError: not even one example fits the memory.
        """
        self._place_embedding()
        while True:
            try:
                return self._step(examples, seed)
            except torch.OutOfMemoryError:
                pass
            self._halve(len(examples))

    @torch.no_grad()
    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """P(BUY, SELL, HOLD) at the decision token, shape (n, 3), float64, renormalised over the three; no dropout.

        Args:
            prompts: prompt ids without the answer; the decision prefix is added here.
            tokens: decision tokens.
        """
        self._place_embedding()
        parts = []
        for start in range(0, len(prompts), self.plan.micro_batch):
            rows = [(*prompt, *tokens.prefix) for prompt in prompts[start : start + self.plan.micro_batch]]
            packed = pack(rows, [1] * len(rows), self.device)
            hidden, _ = self._forward(packed, self._micro_batch(packed, None), keep=False)
            states = self.ops.rms_norm(hidden, self.decoder.norm.weight, self.decoder.norm.variance_epsilon)
            logits = states @ head_rows(self.head, tokens.ids, self.dtype).t()
            parts.append(logits.double().softmax(dim=-1).cpu())
        return torch.cat(parts) if parts else torch.zeros((0, 3), dtype=torch.float64)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """Sum of weighted token losses without dropout, and the sum of the weights; no gradients."""
        self._place_embedding()
        total = 0.0
        for start in range(0, len(examples), self.plan.micro_batch):
            part = examples[start : start + self.plan.micro_batch]
            packed = pack(*training_rows(part), self.device)
            hidden, _ = self._forward(packed, self._micro_batch(packed, None), keep=False)
            total += self._head(hidden, self._terms(part))[0].item()
        return total, float(sum(sum(example.weights) for example in examples))

    def close(self) -> None:
        """Give the model back as it was: the embedding on its device, no expanded weights."""
        self._graphs = None
        self.weights.release()
        table = self.decoder.embed_tokens.weight
        table.data = table.data.to(self.device)

    def _place_embedding(self) -> None:
        """Keep the embedding where the plan has it: whoever prepares the model for training moves it back."""
        table = self.decoder.embed_tokens.weight
        tied = table is self.head.weight
        if self.plan.host_embedding and not tied and table.device.type != "cpu":
            table.data = table.data.cpu()

    def _halve(self, examples: int) -> None:
        """Half the micro-batch, nothing kept that can be computed again."""
        self.weights.release()
        self.offload.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        micro = min(self.plan.micro_batch, examples)
        if micro <= 1:
            raise InputError(
                "GPU memory: one example does not fit; close other programs, lower train.max_sequence_length, or use a "
                "smaller base model"
            ) from None
        self._graphs = None
        self.plan = replace(
            self.plan,
            micro_batch=-(-micro // 2),
            full_layers=0,
            resident=False,
            offload_share=0.0,
            chunk=2048,
            graphs=False,
        )
        self.weights.resident = False
        self.say(f"out of GPU memory: repeating the step with micro-batch {self.plan.micro_batch}")

    @torch.no_grad()
    def _step(self, examples: Sequence[TokenizedExample], seed: int) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients of all micro-batches of a step."""
        graphs = self._pass_graphs()
        if graphs is None or self._sums is None:
            self._sums = GradientSums(self.parameters)
        sums = self._sums
        sums.flat.zero_()
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        for start in range(0, len(examples), self.plan.micro_batch):
            part, seeds = examples[start : start + self.plan.micro_batch], self._seeds(seed + start)
            if graphs is None:
                total += self._pass(pack(*training_rows(part), self.device), self._terms(part), seeds)
            else:
                total += graphs.run(part, seeds)
        if graphs is None:
            self._sums = None
        return total, sums.of(self.parameters, copy=graphs is not None)

    def _pass_graphs(self) -> PassGraphs | None:
        """The graphs of this plan's passes; None where the plan has none.

        They read and write the parameters where they lie, so they are recorded again when those have moved.
        """
        if not self.plan.graphs:
            self._graphs = None
            return None
        addresses = tuple(p.data_ptr() for p in self.parameters)
        if self._graphs is None or addresses != self._addresses:
            self._addresses, self._sums = addresses, GradientSums(self.parameters)
            self._graphs = PassGraphs(self._pass, self.device, self.say)
        return self._graphs

    def _pass(self, packed: PackedBatch, terms: LossTerms, seeds: Tensor | None) -> Tensor:
        """Forward and backward of one micro-batch; its gradients are added to `_sums`."""
        if self.plan.graphs:
            self.weights.forget_layer()
        batch = self._micro_batch(packed, seeds, self._sums)
        hidden, saved = self._forward(packed, batch, keep=True)
        total, grad = self._head(hidden, terms)
        del hidden
        back: Tensor | None = grad
        for number in range(len(self.layers) - 1, -1, -1):
            activations = saved.pop()
            if activations.hidden is None:
                activations.hidden = self.offload.load((number, LAYER_INPUT))
            for part in range(LAYER_INPUT, batch.offloaded):
                self.offload.prefetch((number - 1, part))
            assert back is not None  # noqa: S101
            back = backward_layer(
                self._layer_pass(number, packed, batch),
                back,
                activations,
                first=number == 0,
                reload=None if activations.attention is not None else partial(self._reload, number),
            )
        return total

    def _store(self, number: int, part: int, value: Tensor) -> None:
        self.offload.store((number, part), value)

    def _reload(self, number: int, part: int) -> Tensor:
        return self.offload.load((number, part))

    def _layer_pass(self, number: int, packed: PackedBatch, batch: MicroBatch) -> LayerPass:
        """A layer's part in a micro-batch; good until the next layer's, whose weights take its place."""
        last = number == len(self.layers) - 1
        return LayerPass(
            self.layers[number],
            self.weights.stacks(number),
            batch,
            packed.last_segments if last else packed.segments,
            packed.target_index if last else None,
        )

    def _forward(self, packed: PackedBatch, batch: MicroBatch, *, keep: bool) -> tuple[Tensor, list[SavedActivations]]:
        """All layers; the output has the target positions only, (A, h)."""
        hidden = embed(self.decoder.embed_tokens, packed.ids, self.device)
        saved: list[SavedActivations] = []
        for number in range(len(self.layers)):
            whole = keep and number >= len(self.layers) - max(self.plan.full_layers, 1)
            hidden, activations = forward_layer(
                self._layer_pass(number, packed, batch),
                hidden,
                keep=whole,
                offload=partial(self._store, number) if keep else None,
            )
            if keep and self.plan.offload_inputs and not whole:
                assert activations.hidden is not None  # noqa: S101
                self.offload.store((number, LAYER_INPUT), activations.hidden)
                activations.hidden = None
            if keep:
                saved.append(activations)
        return hidden, saved

    def _terms(self, examples: Sequence[TokenizedExample]) -> LossTerms:
        return loss_terms(examples, self.device)

    def _head(self, hidden: Tensor, terms: LossTerms) -> tuple[Tensor, Tensor]:
        """Weighted losses over the vocabulary and the gradient of the last layer's output, (A, h)."""
        norm, eps = self.decoder.norm.weight, self.decoder.norm.variance_epsilon
        states = self.ops.rms_norm(hidden, norm, eps)
        positions, targets, weights, decisions = terms
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        grad = torch.zeros_like(states)
        product = HeadProduct(self.head, self.dtype, self.plan.head_parts)
        for start in range(0, len(positions), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            logits = product.logits(states[positions[rows]])
            loss, grad_logits = cross_entropy_grad(logits, targets[rows], weights[rows])
            grad.index_add_(0, positions[rows], product.transposed(grad_logits))
            total += loss
        for start in range(0, len(decisions.positions), HEAD_ROWS):
            part = decisions.rows(slice(start, start + HEAD_ROWS))
            loss, grad_logits = decisions_grad(product.logits(states[part.positions]), part)
            grad.index_add_(0, part.positions, product.transposed(grad_logits))
            total += loss
        return total, self.ops.rms_norm_backward(grad, hidden, norm, eps, torch.zeros_like(grad))

    def _micro_batch(self, packed: PackedBatch, seeds: Tensor | None, sums: GradientSums | None = None) -> MicroBatch:
        """What all layers of a pass share."""
        probe = torch.empty(0, dtype=self.dtype, device=self.device)
        cos, sin = self.decoder.rotary_emb(probe, packed.positions[None])
        chunks, offloaded = chunks_of(packed.tokens, self.plan.chunk, self.plan.offload_share)
        return MicroBatch(
            self.ops, cos[0], sin[0], self.shape.heads, self.shape.kv_heads, seeds, chunks, offloaded, sums
        )

    def _seeds(self, seed: int) -> Tensor | None:
        """A dropout seed for each LoRA pair, int32; None when the model is not training."""
        if not self.model.training:
            return None
        generator = torch.Generator().manual_seed(seed)
        seeds = torch.randint(-(2**31), 2**31 - 1, (self.pairs,), generator=generator)
        return seeds.to(torch.int32).to(self.device)
