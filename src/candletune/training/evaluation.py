"""What is measured on the way: decisions on held-out rows at the base rates, and the eval split's loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from candletune.artifacts import EvalFigures
from candletune.base.chat import DecisionTokens
from candletune.decisions import DECISIONS
from candletune.training.engine import TrainingEngine
from candletune.training.examples import TokenizedExample


@dataclass(frozen=True, slots=True)
class EvalSet:
    """Held-out rows.

    Attributes:
        prompts: natural-prior rows, prompt ids each.
        labels: index of the true class of each prompt.
        tokens: decision tokens.
        examples: the eval split, for the loss.
    """

    prompts: list[tuple[int, ...]]
    labels: list[int]
    tokens: DecisionTokens
    examples: Sequence[TokenizedExample] = ()


def evaluate(engine: TrainingEngine, held_out: EvalSet) -> EvalFigures:
    """Decision figures, and the weighted mean answer loss of the eval split as `loss` (where there is one)."""
    figures = evaluate_decisions(engine, held_out)
    if held_out.examples:
        loss_sum, weight_sum = engine.evaluate(held_out.examples)
        return figures.model_copy(update={"loss": loss_sum / weight_sum})
    return figures


def evaluate_decisions(engine: TrainingEngine, held_out: EvalSet) -> EvalFigures:
    """Decision accuracy, balanced accuracy, recalls, shares and log loss on natural-prior rows, from the logits."""
    if not held_out.prompts:
        return EvalFigures(rows=0, shares=dict.fromkeys(DECISIONS, 0.0))
    order = sorted(range(len(held_out.prompts)), key=lambda row: len(held_out.prompts[row]))
    probabilities = engine.decision_probabilities([held_out.prompts[row] for row in order], held_out.tokens)
    labels = torch.tensor([held_out.labels[row] for row in order])
    decided = probabilities.argmax(dim=1)
    recalls = {
        name: float((decided[labels == k] == k).float().mean()) if bool((labels == k).any()) else 0.0
        for k, name in enumerate(DECISIONS)
    }
    return EvalFigures(
        rows=len(labels),
        accuracy=float((decided == labels).float().mean()),
        balanced_accuracy=sum(recalls.values()) / len(recalls),
        recall=recalls,
        shares={name: float((decided == k).float().mean()) for k, name in enumerate(DECISIONS)},
        log_loss=float(-probabilities[torch.arange(len(labels)), labels].clamp_min(1e-9).log().mean()),
    )
