"""The fast path: a step's loss and LoRA gradients by hand, exact, without padding, float32 copies or wasted work.

What every row begins with is computed once; the last layer works only where an answer token is predicted; logits exist
only there, some hundred rows at a time; 4-bit weights are expanded once a layer and pass; layers keep as much for
backward as the memory plan allows. On out-of-memory the step is repeated with half the micro-batch, and said.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.config import TrainConfig
from candletune.errors import InputError, UsageError
from candletune.training.fast.layer import Gradients, Kept, Micro, backward_layer, forward_layer
from candletune.training.fast.offload import Shelf, host_share
from candletune.training.fast.ops import ops_for, token_losses
from candletune.training.fast.packing import Layout, answers_of, pack, rows_of
from candletune.training.fast.plan import Plan, Shape, budget_bytes, choose, pieces
from candletune.training.fast.weights import Layer, Weights, read_layer
from candletune.training.tokens import Weighted

HEAD_ROWS = 256
"""Rows of logits made at once."""
HIDDEN = -1
"""Shelf part of a layer's input; the others are pieces of its feed-forward part."""


def unsupported(model: Any) -> str | None:
    """Why the fast path cannot run this model, or None."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    shape = inner.config
    if shape.model_type not in ("mistral", "llama"):
        return f"its type is {shape.model_type}, not mistral or llama"
    if getattr(shape, "attention_bias", False) or getattr(shape, "mlp_bias", False):
        return "its linear layers have biases"
    if shape.hidden_act != "silu" or getattr(shape, "attention_dropout", 0.0):
        return "its activation is not silu, or attention has dropout"
    for name, module in inner.named_modules():
        if getattr(module, "lora_variant", None) or getattr(module, "merged", False):
            return f"{name} is a LoRA variant or merged"
        if hasattr(module, "base_layer") and len(module.active_adapters) != 1:
            return f"{name} has not exactly one active adapter"
    return None


def open_fast(
    model: Any, config: TrainConfig, examples: Sequence[Weighted], *, batch: int, say: Callable[[str], None]
) -> "GradientEngine | None":
    """The fast engine where it applies: always with `backend = "fast"`, on a GPU with `auto`, else None.

    With several visible GPUs (`train.gpus`) it is one whose steps they share.

    Args:
        model: PEFT-wrapped model.
        config: training settings.
        examples: all training examples; the longest decide the memory plan.
        batch: examples an optimizer step.
        say: where notes go.

    Raises:
        UsageError: the fast path is demanded and the model is not of its kind.
        InputError: the memory budget is too small.
    """
    device = next(model.parameters()).device
    if config.backend not in ("fast", "auto") or (config.backend == "auto" and device.type != "cuda"):
        return None
    reason = unsupported(model)
    window = getattr(model.config, "sliding_window", None)
    if reason is None and window and window < max(len(example.ids) for example in examples):
        reason = "examples are longer than its sliding window"
    if reason is not None:
        if config.backend == "fast":
            raise UsageError(f"train.backend: the fast path cannot run this model ({reason}); set it to reference")
        say(f"the fast path cannot run this model ({reason}); using the reference path")
        return None
    others: list[str] = []
    if device.type == "cuda" and config.gpus != 1:
        from candletune.training.fast.parallel import other_places

        others = other_places(config.gpus)[: batch - 1]
    share = -(-batch // (len(others) + 1))
    engine = FastEngine(model, plan_for(model, config, examples, batch=share), say=say)
    if not others:
        return engine
    from candletune.training.fast.parallel import Team

    base = Path(model.get_base_model().name_or_path)
    return Team(engine, base, config, examples, batch=share, places=others, say=say)


def shape_of(model: Any) -> Shape:
    """The sizes the memory plan needs."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    shape = inner.config
    heads = shape.num_attention_heads
    return Shape(
        hidden=shape.hidden_size,
        feed_forward=shape.intermediate_size,
        heads=heads,
        kv_heads=shape.num_key_value_heads,
        head_size=getattr(shape, "head_dim", None) or shape.hidden_size // heads,
        layers=shape.num_hidden_layers,
        vocabulary=shape.vocab_size,
        item=inner.model.embed_tokens.weight.element_size(),
        expand=any(hasattr(parameter, "quant_state") for parameter in inner.parameters()),
    )


def plan_for(model: Any, config: TrainConfig, examples: Sequence[Weighted], *, batch: int) -> Plan:
    """The memory plan for a model that is already on its device.

    Raises:
        InputError: the budget is too small.
    """
    device = next(model.parameters()).device
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if device.type == "cuda":
        held = float(torch.cuda.memory_allocated(device))
    else:
        held = float(sum(p.numel() * p.element_size() for p in model.parameters()))
    rows, asked = rows_of(examples)
    layout = pack(rows, asked, torch.device("cpu"))
    shape = shape_of(model)
    return choose(
        shape,
        [(len(row), want) for row, want in zip(rows, asked, strict=True)],
        layout.prefix,
        model=held,
        trained=trained,
        batch=batch,
        budget=budget_bytes(config.vram_gib, device),
        wanted=config.batch_size,
        recompute=config.gradient_checkpointing or config.vram_gib is not None,
        host=device.type == "cuda",
        aside=host_share(shape, min(layout.tokens, batch * max(map(len, rows))), device),
    )


class _Given(torch.autograd.Function):
    """A loss whose gradients are already known."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, grads: list[Tensor], *_: Tensor) -> Tensor:
        """The loss; its gradients wait in `ctx`."""
        ctx.grads = grads
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """The known gradients, scaled."""
        return (None, None, *(grad * outer[0] for grad in ctx.grads))


class Planned(Protocol):
    """A memory plan, as training reports it."""

    @property
    def micro_batch(self) -> int:
        """Examples a pass."""

    def describe(self) -> str:
        """One line for people."""


class GradientEngine(Protocol):
    """What training needs of the fast path, on one device or several."""

    @property
    def plan(self) -> Planned:
        """The memory plan."""

    def loss(self, examples: Sequence[Weighted]) -> tuple[Tensor, float]:
        """Sum of weighted token losses, its gradients already worked out, and the sum of the weights."""

    def evaluate(self, examples: Sequence[Weighted]) -> tuple[float, float]:
        """The same without dropout or gradients."""

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """P(BUY, SELL, HOLD) at the decision token."""

    def close(self) -> None:
        """Give the model back."""


def given_loss(total: Tensor, grads: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """A loss tensor whose backward hands out gradients that are already known."""
    loss: Tensor = _Given.apply(total, grads, *parameters)
    return loss


class FastEngine:
    """Holds a PEFT-wrapped Llama or Mistral model taken apart, and works through its batches by a memory plan."""

    def __init__(self, model: Any, plan: Plan, *, say: Callable[[str], None]) -> None:
        self.model, self.plan, self.say = model, plan, say
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder, self.head = inner.model, inner.lm_head
        self.device = next(p for p in model.parameters() if p.requires_grad).device
        self.dtype = self.decoder.embed_tokens.weight.dtype
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
        self.ops, reason = ops_for(str(self.device))
        if reason:
            say(f"no Triton kernels, so training is about half as fast ({reason}); install triton and a C compiler")
        self.weights = Weights(self.layers, self.dtype, resident=plan.resident)
        self.shelf = Shelf(self.device)
        self._place_embedding()

    def loss(self, examples: Sequence[Weighted]) -> tuple[Tensor, float]:
        """Sum of weighted token losses (with gradients, whose work is already done) and the sum of the weights.

        Raises:
            InputError: not even one example fits the memory.
        """
        seed = int(torch.randint(2**31 - 1, (1,)))
        total, grads = self.gradients(examples, seed)
        weight = sum(sum(example.weights) for example in examples)
        return given_loss(total, grads, self.parameters), float(weight)

    def gradients(self, examples: Sequence[Weighted], seed: int) -> tuple[Tensor, list[Tensor]]:
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
                total, sums = self._step(examples, seed)
                return total, [sums.sums[id(parameter)] for parameter in self.parameters]
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
        found = []
        for start in range(0, len(prompts), self.plan.micro_batch):
            rows = [(*prompt, *tokens.prefix) for prompt in prompts[start : start + self.plan.micro_batch]]
            layout = pack(rows, [1] * len(rows), self.device)
            hidden, _ = self._forward(layout, self._micro(layout, None), keep=False)
            states = self.ops.norm(hidden, self.decoder.norm.weight, self.decoder.norm.variance_epsilon)
            logits = states @ self.head.weight[list(tokens.ids)].t()
            found.append(logits.double().softmax(dim=-1).cpu())
        return torch.cat(found) if found else torch.zeros((0, 3), dtype=torch.float64)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Weighted]) -> tuple[float, float]:
        """Sum of weighted token losses without dropout, and the sum of the weights; no gradients."""
        self._place_embedding()
        total = 0.0
        for start in range(0, len(examples), self.plan.micro_batch):
            part = examples[start : start + self.plan.micro_batch]
            layout = pack(*rows_of(part), self.device)
            hidden, _ = self._forward(layout, self._micro(layout, None), keep=False)
            total += self._head(hidden, part)[0].item()
        return total, float(sum(sum(example.weights) for example in examples))

    def close(self) -> None:
        """Give the model back as it was: the embedding on its device, no expanded weights."""
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
        self.shelf.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        micro = min(self.plan.micro_batch, examples)
        if micro <= 1:
            raise InputError(
                "GPU memory: one example does not fit; close other programs, lower train.max_sequence_length, or use a "
                "smaller base model"
            ) from None
        self.plan = replace(self.plan, micro_batch=-(-micro // 2), full_layers=0, resident=False, aside=0.0, chunk=2048)
        self.weights.resident = False
        self.say(f"out of GPU memory: repeating the step with micro-batch {self.plan.micro_batch}")

    @torch.no_grad()
    def _step(self, examples: Sequence[Weighted], seed: int) -> tuple[Tensor, Gradients]:
        """Loss and gradients of all micro-batches of a step."""
        sums = Gradients(self.parameters)
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        for start in range(0, len(examples), self.plan.micro_batch):
            total += self._pass(examples[start : start + self.plan.micro_batch], seed + start, sums)
        return total, sums

    def _pass(self, examples: Sequence[Weighted], seed: int, sums: Gradients) -> Tensor:
        """Forward and backward of one micro-batch."""
        rows, asked = rows_of(examples)
        layout = pack(rows, asked, self.device)
        micro = self._micro(layout, self._seeds(seed))
        hidden, kept = self._forward(layout, micro, keep=True)
        total, grad = self._head(hidden, examples)
        del hidden
        last = len(self.layers) - 1
        back: Tensor | None = grad
        for number in range(last, -1, -1):
            held = kept.pop()
            if held.hidden is None:
                held.hidden = self.shelf.take((number, HIDDEN))
            for part in range(HIDDEN, micro.aside):
                self.shelf.ask((number - 1, part))
            assert back is not None  # noqa: S101
            back = backward_layer(
                back,
                held,
                self.layers[number],
                self.weights.of(number),
                micro,
                layout.last if number == last else layout.body,
                sums,
                picked=layout.picked if number == last else None,
                first=number == 0,
                fetch=None if held.queries is not None else partial(self._fetch, number),
            )
        return total

    def _stash(self, number: int, part: int, value: Tensor) -> None:
        self.shelf.put((number, part), value)

    def _fetch(self, number: int, part: int) -> Tensor:
        return self.shelf.take((number, part))

    def _forward(self, layout: Layout, micro: Micro, *, keep: bool) -> tuple[Tensor, list[Kept]]:
        """All layers; the output has the picked rows only."""
        hidden = self._embed(layout)
        last = len(self.layers) - 1
        kept: list[Kept] = []
        for number, layer in enumerate(self.layers):
            whole = keep and number >= len(self.layers) - max(self.plan.full_layers, 1)
            hidden, held = forward_layer(
                hidden,
                layer,
                self.weights.of(number),
                micro,
                layout.last if number == last else layout.body,
                picked=layout.picked if number == last else None,
                keep=whole,
                stash=partial(self._stash, number) if keep else None,
            )
            if keep and self.plan.offload and not whole:
                assert held.hidden is not None  # noqa: S101
                self.shelf.put((number, HIDDEN), held.hidden)
                held.hidden = None
            if keep:
                kept.append(held)
        return hidden, kept

    def _head(self, hidden: Tensor, examples: Sequence[Weighted]) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy over the vocabulary and the gradient of the last layer's output."""
        norm, eps = self.decoder.norm.weight, self.decoder.norm.variance_epsilon
        states = self.ops.norm(hidden, norm, eps)
        places, targets, weights = (torch.tensor(values, device=self.device) for values in answers_of(examples))
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        grad = torch.zeros_like(states)
        for start in range(0, len(places), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            logits = states[places[rows]] @ self.head.weight.t()
            losses, back = token_losses(logits, targets[rows], weights[rows])
            grad.index_add_(0, places[rows], back @ self.head.weight)
            total += losses
        return total, self.ops.norm_backward(grad, hidden, norm, eps, torch.zeros_like(grad))

    def _embed(self, layout: Layout) -> Tensor:
        """Embeddings of the packed tokens; from host memory only the different ones travel."""
        table: Tensor = self.decoder.embed_tokens.weight
        ids = torch.from_numpy(layout.ids)
        if table.device == self.device:
            return table[ids.to(self.device)]
        different, places = torch.unique(ids, return_inverse=True)
        return table[different].to(self.device)[places.to(self.device)]

    def _micro(self, layout: Layout, seeds: Tensor | None) -> Micro:
        probe = torch.empty(0, dtype=self.dtype, device=self.device)
        cos, sin = self.decoder.rotary_emb(probe, layout.positions[None])
        split, aside = pieces(layout.tokens, self.plan.chunk, self.plan.aside)
        return Micro(self.ops, cos[0], sin[0], self.shape.heads, self.shape.kv_heads, seeds, split, aside)

    def _seeds(self, seed: int) -> Tensor | None:
        if not self.model.training:
            return None
        generator = torch.Generator().manual_seed(seed)
        seeds = torch.randint(-(2**31), 2**31 - 1, (self.pairs,), generator=generator)
        return seeds.to(torch.int32).to(self.device)
