"""Gradient boosting on the fields' features."""

from typing import Any

from candletune.evaluation.baselines.base import Baseline, Ints, Task, classify


def decide(task: Task) -> Ints:
    """The likeliest class."""
    return classify(model(task.seed), task)


def model(seed: int) -> Any:
    """60 small steps over 8 leaves of at least 60 examples: of three thousand examples, faster ones learn the noise."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, learning_rate=0.03, min_samples_leaf=60, l2_regularization=10, random_state=seed
    )


BASELINE = Baseline("gradient boosting", 60, decide)
