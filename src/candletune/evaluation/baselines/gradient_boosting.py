"""Gradient boosting on the fields' features."""

from typing import Any

from candletune.config import BoostingConfig
from candletune.evaluation.baselines.base import Baseline, Ints, Task, classify


def decide(task: Task) -> Ints:
    """The likeliest class."""
    return classify(model(task.seed), task)


def model(seed: int, settings: BoostingConfig | None = None) -> Any:
    """By default small steps over few leaves of many examples: of three thousand examples, faster ones learn the noise.

    Args:
        seed: of whatever is random.
        settings: none: the defaults, which the baseline always has.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, **(settings or BoostingConfig()).model_dump())


BASELINE = Baseline("gradient boosting", 60, decide)
