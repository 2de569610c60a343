"""Series for charts, from the scored journal: running accuracy and difference, equity, agreement by month."""

from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.evaluation.metrics import portfolio_returns
from candletune.evaluation.times import Times
from candletune.journal import SIDES

Floats = NDArray[np.float64]
POINTS: Final = 160
"""Points of a line on the page: more than a screen shows, few enough to stay small."""
_EARLIEST: Final = 10


@dataclass(slots=True)
class Line:
    """A running estimate with its pointwise band; lists of equal length."""

    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, value: float, reach: float) -> None:
        """One more point, as far on as the chart needs digits."""
        for points, number in ((self.value, value), (self.low, value - reach), (self.high, value + reach)):
            points.append(round(float(number), 5))


@dataclass(frozen=True, slots=True)
class Running:
    """BUY/SELL accuracy over everything seen so far, at up to POINTS times.

    Attributes:
        time: decision times.
        sides: accuracy by side.
        difference: candidate minus incumbent.
    """

    time: list[datetime]
    sides: dict[str, Line]
    difference: Line


def running(times: Times, confidence: float) -> Running | None:
    """Accuracy of both sides and their difference over everything seen so far; None with too few times.

    The bands are pointwise: a ratio (or the difference of two) is linearised, and the variance of its per-time terms
    adds the covariances of overlapping windows with falling weights (Newey and West 1987).
    """
    count = len(times)
    if count < 2 * _EARLIEST:
        return None
    # Earlier than a twentieth of the way the rates still jump with every call.
    first = max(_EARLIEST, count // 20)
    ends = np.unique(np.linspace(first, count, min(POINTS, count - first + 1)).astype(int))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    series = Running([], {side: Line() for side in SIDES}, Line())
    for end in ends:
        if not all(times.sides[side].signals[:end].sum() for side in SIDES):
            continue
        rates, terms = {}, {}
        for side in SIDES:
            hits, signals = times.sides[side].hits[:end], times.sides[side].signals[:end]
            rates[side] = float(hits.sum() / signals.sum())
            terms[side] = (hits - rates[side] * signals) / signals.sum()
            series.sides[side].add(rates[side], z * _long_run_error(terms[side], times.overlap))
        gain_terms = terms["shadow"] - terms["active"]
        series.difference.add(rates["shadow"] - rates["active"], z * _long_run_error(gain_terms, times.overlap))
        series.time.append(times.stamps[int(end) - 1])
    return series if len(series.time) > 1 else None


def _long_run_error(terms: Floats, lags: int) -> float:
    variance = float(terms @ terms)
    for lag in range(1, min(lags, len(terms) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(terms[lag:] @ terms[:-lag])
    return float(max(variance, 0.0) ** 0.5)


def equity_curves(scored: pl.DataFrame, fee: float) -> dict[str, list[Any]]:
    """Growth of 1 by acting on each side's calls after fees, and by holding: the curves behind `metrics.equity`."""
    sides = {side: portfolio_returns(scored, side, fee) for side in SIDES}
    table = sides["active"].select("timestamp", "market", active=sides["active"]["net"], shadow=sides["shadow"]["net"])
    names = ("market", *SIDES)
    grown = thin(table.select("timestamp", *((pl.col(name) + 1).cum_prod() for name in names)), 3 * POINTS)
    return {"time": grown["timestamp"].to_list()} | {name: grown[name].round(5).to_list() for name in names}


def agreement_by_month(scored: pl.DataFrame) -> dict[str, float]:
    """Share of rows both sides answered alike, by month."""
    answered = scored.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    month = pl.col("timestamp").dt.strftime("%Y-%m").alias("month")
    table = answered.group_by(month).agg((pl.col("active_action") == pl.col("shadow_action")).mean().alias("share"))
    return dict(table.sort("month").iter_rows())


def thin(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most about `count` evenly spread rows, the last one always among them."""
    if len(frame) <= count:
        return frame
    rows = np.unique(np.linspace(0, len(frame) - 1, count).round().astype(int))
    return frame.select(pl.all().gather(rows.tolist()))
