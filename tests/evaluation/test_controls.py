"""The shift control: skill disappears when the outcomes move away, and noise was never there."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from candletune.evaluation.controls import shifted_accuracy

START = datetime(2025, 1, 1, tzinfo=UTC)


def scored(decisions: list[NDArray[np.int64]], returns: list[NDArray[np.float64]]) -> pl.DataFrame:
    """Tickers A, B, ...; 0 BUY, 1 SELL, 2 HOLD, 3 no answer; NaN is a pending outcome."""
    frames = []
    for number, (actions, values) in enumerate(zip(decisions, returns, strict=True)):
        names = [("BUY", "SELL", "HOLD", None)[k] for k in actions]
        frames.append(
            pl.DataFrame(
                {
                    "timestamp": [START + timedelta(hours=h) for h in range(len(names))],
                    "ticker": ["AB"[number]] * len(names),
                    "shadow_action": pl.Series(names, dtype=pl.String),
                    "forward_return": pl.Series(values).fill_nan(None),
                }
            )
        )
    return pl.concat(frames).sort("timestamp", "ticker")


def test_every_shift_by_hand() -> None:
    actions = np.array([0, 1, 2, 0, 3, 1])
    values = np.array([0.02, 0.02, 0.0, -0.02, 0.02, np.nan])
    # known outcomes at each shift for the calls at 0, 1, 3, 5:
    # shift 0: up right, up wrong, down wrong, pending: 1 of 3
    # shift 2: flat wrong, down right, pending, up wrong: 1 of 3
    # shift 3: down wrong, up wrong, up right, flat wrong: 1 of 4
    found = shifted_accuracy(scored([actions], [values]), "shadow", move=0.01, least_shift=2)
    assert found is not None
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.shifts == 2
    assert found.chance == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert found.p_value == 0.5


@pytest.mark.parametrize(("skill", "low", "high"), [(0.5, 0.0, 0.001), (0.0, 0.05, 1.0)])
def test_skill_falls_to_chance(skill: float, low: float, high: float) -> None:
    rng = np.random.default_rng(4)
    decisions, returns = [], []
    for _ in range(2):
        steps = rng.normal(0, 0.004, 1512).cumsum()
        forward = steps[12:] - steps[:-12]
        truth = np.where(forward > 0.01, 0, np.where(forward < -0.01, 1, 2))
        decisions.append(np.where(rng.random(1500) < skill, truth, rng.integers(0, 3, 1500)))
        returns.append(forward)
    found = shifted_accuracy(scored(decisions, returns), "shadow", move=0.01, least_shift=24)
    assert found is not None
    # shifted, the calls are right as often as the outcomes are there: about a fifth a side
    rises = np.mean([(values > 0.01).mean() for values in returns])
    falls = np.mean([(values < -0.01).mean() for values in returns])
    assert found.chance == pytest.approx((rises + falls) / 2, abs=0.02)
    assert low <= found.p_value <= high


def test_too_little_says_nothing() -> None:
    few = scored([np.array([0, 1, 0])], [np.array([0.02, 0.0, 0.02])])
    assert shifted_accuracy(few, "shadow", move=0.01, least_shift=24) is None
    silent = scored([np.full(40, 2)], [np.zeros(40)])
    assert shifted_accuracy(silent, "shadow", move=0.01, least_shift=2) is None
