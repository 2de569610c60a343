"""The median rule: a trial that has never been as good as half of those before it were at the same step is hopeless."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from candletune.experiments.logged import logged_steps

LEAST: Final = 4
"""Trials before it that must have reached the step."""
Curve = Mapping[int, float]
"""Optimizer step -> log loss on the eval rows."""


def curve_of(metrics: Path) -> dict[int, float]:
    """Log loss of the decision by step, as a training logged it so far (see `logged_steps`)."""
    return {
        entry.step: entry.eval_log_loss
        for entry in logged_steps(metrics)
        if entry.step is not None and entry.eval_log_loss is not None
    }


def hopeless_at(curve: Curve, before: Sequence[Curve]) -> int | None:
    """The first step at which a trial's best log loss lies above the median of those before it at that step.

    The median stopping rule of Golovin et al. 2017, section 3.1, as Optuna's `MedianPruner` has it. What is found
    depends on the curves alone, not on when somebody looks.
    """
    best = float("inf")
    for step in sorted(curve):
        best = min(best, curve[step])
        others = [other[step] for other in before if step in other]
        if len(others) >= LEAST and best > median(others):
            return step
    return None
