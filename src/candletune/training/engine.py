"""What training asks of an engine: the loss of a step with its gradients, evaluation, and decision probabilities.

Engines live in `training/engines`, a file each; `tests/training/test_engines.py` holds all of them to the same tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.config import TrainConfig
from candletune.training.examples import TokenizedExample


class EnginePlan(Protocol):
    """How an engine works through a step, as training reports it."""

    @property
    def micro_batch(self) -> int:
        """Examples a pass."""

    def describe(self) -> str:
        """One line for people; empty when nothing was planned."""


class TrainingEngine(Protocol):
    """A model in training, on one device or several."""

    @property
    def name(self) -> str:
        """The engine's name, as `train.backend` spells it."""

    @property
    def model(self) -> Any:
        """The base with its adapter."""

    @property
    def plan(self) -> EnginePlan:
        """The way of working; it may change while training runs (less memory than expected)."""

    @property
    def call_size(self) -> int:
        """Examples that one call of `loss` is given, at most the effective batch."""

    @property
    def checkpointing(self) -> bool:
        """Whether Hugging Face's Trainer is to switch gradient checkpointing on in the model."""

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """Sum of weighted token losses, whose backward gives the adapter's gradients, and the sum of the weights.

        Raises:
            InputError: not even one example fits the memory.
        """

    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """The same without dropout or gradients."""

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """P(BUY, SELL, HOLD) at the decision token without dropout, shape (n, 3), float64, summing to one.

        Args:
            prompts: prompt ids without the answer; the decision prefix is added by the engine.
            tokens: decision tokens.
        """

    def close(self) -> None:
        """Give the model back as it was, and what else is held."""


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is opened with.

    Attributes:
        config: training settings.
        examples: all training examples.
        pad: id to pad with.
        say: where notes go.
    """

    config: TrainConfig
    examples: Sequence[TokenizedExample]
    pad: int
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """How an engine is had: the `ENGINE` of its file in `training/engines`.

    Attributes:
        open: takes the model from `load`; raises UsageError or InputError where it cannot.
        load: the base from a folder, on a device, with a fresh adapter drawn from a seed.
        refusal: why it cannot run a model, or None.
        automatic: types of device on which `train.backend = "auto"` may choose it.
        preference: the largest is tried first.
    """

    open: Callable[[Any, EngineSetup], TrainingEngine]
    load: Callable[[Path, TrainConfig, str, int], Any]
    refusal: Callable[[Any, EngineSetup], str | None] = lambda model, setup: None
    automatic: tuple[str, ...] = ()
    preference: int = 0


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """A plan that is nothing but a micro-batch."""

    micro_batch: int
    title: str = ""

    def describe(self) -> str:
        """One line for people; empty without a title."""
        return f"{self.title}, micro-batch {self.micro_batch}" if self.title else ""


class _KnownGradients(torch.autograd.Function):
    """A loss whose gradients are already worked out."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, grads: list[Tensor], *_: Tensor) -> Tensor:
        """The loss; its gradients wait in `ctx`."""
        ctx.grads = grads
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """The known gradients, scaled."""
        return (None, None, *(grad * outer[0] for grad in ctx.grads))


def loss_with_gradients(total: Tensor, grads: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """A loss tensor whose backward hands the parameters gradients that are already known."""
    loss: Tensor = _KnownGradients.apply(total, grads, *parameters)
    return loss
