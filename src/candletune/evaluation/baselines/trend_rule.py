"""BUY above the slow average, SELL below it."""

import numpy as np

from candletune.evaluation.baselines.base import BUY, SELL, Baseline, Ints, Task


def decide(task: Task) -> Ints:
    """By the sign of the gap between the two averages."""
    return np.where(task.rows["ema_gap_pct"].to_numpy() > 0, BUY, SELL)


BASELINE = Baseline("trend rule", 40, decide)
