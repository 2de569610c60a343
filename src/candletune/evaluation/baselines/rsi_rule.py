"""BUY when oversold, SELL when overbought."""

import numpy as np

from candletune.evaluation.baselines.base import BUY, HOLD, SELL, Baseline, Ints, Task

OVERSOLD, OVERBOUGHT = 30.0, 70.0


def decide(task: Task) -> Ints:
    """By the RSI alone."""
    rsi = task.rows["rsi"].to_numpy()
    return np.where(rsi < OVERSOLD, BUY, np.where(rsi > OVERBOUGHT, SELL, HOLD))


BASELINE = Baseline("RSI rule", 30, decide)
