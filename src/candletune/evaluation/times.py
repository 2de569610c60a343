"""Scored rows by decision time: what comparison, criteria, report and live page all count on."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.evaluation.statistics import effective_size
from candletune.journal import SIDES

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Times:
    """Sums over the tickers of each decision time with a known outcome, in time order; arrays of shape (times,).

    Attributes:
        signals: BUY and SELL decisions, by side.
        hits: the correct ones among them, by side.
        signed: returns in the called direction, summed, of the candidate's.
        overlap: later decision times that follow within one horizon, whose windows share candles.
        days: from the first to the last.
        stamps: the decision times; empty where nobody needs them.
    """

    signals: dict[str, Floats]
    hits: dict[str, Floats]
    signed: Floats
    overlap: int
    days: float
    stamps: tuple[datetime, ...] = ()

    def __len__(self) -> int:
        return len(self.signed)

    @property
    def windows(self) -> float:
        """Outcome windows that lie side by side without overlapping."""
        return len(self) / (self.overlap + 1)

    def effective(self, side: str) -> float:
        """Independent observations a side's signals are worth: at most one a time, since tickers move together."""
        acting = self.signals[side] > 0
        if not acting.any():
            return 0.0
        return effective_size(self.hits[side][acting] / self.signals[side][acting], self.overlap)


def times_of(scored: pl.DataFrame, horizon: timedelta) -> Times:
    """Aggregate scored rows (see `outcomes.score_rows`) by decision time.

    Args:
        scored: rows in any order.
        horizon: from a decision to its outcome.
    """
    known = scored.filter(pl.col("forward_return").is_not_null())
    columns = []
    for side in SIDES:
        acts = pl.col(f"{side}_acts").fill_null(value=False)
        hit = acts & pl.col(f"{side}_correct").fill_null(value=False)
        columns += [
            acts.sum().cast(pl.Float64).alias(f"{side}_signals"),
            hit.sum().cast(pl.Float64).alias(f"{side}_hits"),
        ]
    times = known.group_by("timestamp").agg(*columns, pl.col("shadow_signed").sum()).sort("timestamp")
    stamps = tuple(times["timestamp"].to_list())
    return Times(
        {side: times[f"{side}_signals"].to_numpy() for side in SIDES},
        {side: times[f"{side}_hits"].to_numpy() for side in SIDES},
        times["shadow_signed"].to_numpy(),
        _overlap(times["timestamp"], horizon),
        (stamps[-1] - stamps[0]) / timedelta(days=1) if stamps else 0.0,
        stamps,
    )


def _overlap(stamps: pl.Series, horizon: timedelta) -> int:
    steps = stamps.diff().drop_nulls()
    if steps.is_empty():
        return 0
    step = steps.median()
    assert isinstance(step, timedelta)  # noqa: S101 - narrows the type; the median of durations is one
    return max(0, math.ceil(horizon / step) - 1)
