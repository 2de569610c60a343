"""Series for charts, from the scored journal: running accuracy and difference, equity, agreement by month."""

from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import Final

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


@dataclass(frozen=True, slots=True)
class EquityCurves:
    """What capital gained, by side and by holding (`market`), and how far it lay below its peak, both fractions.

    Attributes:
        time: decision times, evenly spread, the deepest points among them.
        value: gain since the beginning, compounded, or the plain sum at a constant stake.
        fall: 0 at a peak, negative below.
        compounded: which of the two.
    """

    time: list[datetime]
    value: dict[str, list[float]]
    fall: dict[str, list[float]]
    compounded: bool


def equity_curves(scored: pl.DataFrame, fee: float, *, compounded: bool = True) -> EquityCurves:
    """The curves behind `metrics.equity`: acting on each side's calls after fees, and holding."""
    tables = {side: portfolio_returns(scored, side, fee) for side in SIDES}
    returns: dict[str, Floats] = {side: table["net"].to_numpy() for side, table in tables.items()}
    returns["market"] = tables["active"]["market"].to_numpy()
    value: dict[str, Floats] = {}
    fall: dict[str, Floats] = {}
    for name, gained in returns.items():
        curve: Floats = (np.cumprod(1 + gained) if compounded else 1 + np.cumsum(gained)).astype(np.float64)
        peak = np.maximum.accumulate(np.maximum(curve, 1.0))
        value[name], fall[name] = curve - 1, (curve - peak) / (peak if compounded else 1.0)
    rows = _spread(len(tables["active"]), 3 * POINTS, [int(np.argmin(low)) for low in fall.values() if len(low)])
    return EquityCurves(
        time=[tables["active"]["timestamp"][row] for row in rows],
        value={name: curve[rows].round(4).tolist() for name, curve in value.items()},
        fall={name: curve[rows].round(4).tolist() for name, curve in fall.items()},
        compounded=compounded,
    )


def _spread(count: int, wanted: int, always: list[int]) -> list[int]:
    """Evenly spread rows, the first, the last and those named among them."""
    even = np.linspace(0, count - 1, min(wanted, count)).round().astype(int) if count else np.array([], int)
    return sorted({*even.tolist(), *always})


@dataclass(frozen=True, slots=True)
class Selective:
    """Risk against coverage (El-Yaniv and Wiener 2010): share wrong of the calls acted on, the most confident first."""

    coverage: list[float]
    risk: list[float]


def selective(scored: pl.DataFrame, side: str) -> Selective | None:
    """A side's BUY and SELL calls with a known outcome by falling probability; None with fewer than twenty.

    Calls of the same probability are taken together. The first points rest on few calls: it begins at twenty.
    """
    chance = pl.when(pl.col(f"{side}_action") == "BUY").then(f"{side}_p_buy").otherwise(f"{side}_p_sell")
    calls = scored.filter(pl.col(f"{side}_acts") & pl.col(f"{side}_correct").is_not_null()).select(
        chance=chance, wrong=~pl.col(f"{side}_correct")
    )
    ranked = (
        calls.drop_nulls()
        .group_by("chance")
        .agg(pl.len().alias("calls"), pl.col("wrong").sum())
        .sort("chance", descending=True)
        .with_columns(pl.col("calls", "wrong").cum_sum())
        .filter(pl.col("calls") >= 2 * _EARLIEST)
    )
    if ranked.is_empty():
        return None
    rows = _spread(len(ranked), POINTS, [])
    seen, wrong = ranked["calls"].to_numpy()[rows], ranked["wrong"].to_numpy()[rows]
    return Selective((seen / seen[-1]).round(4).tolist(), (wrong / seen).round(4).tolist())


def agreement_by_month(scored: pl.DataFrame) -> dict[str, float]:
    """Share of rows both sides answered alike, by month."""
    answered = scored.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    month = pl.col("timestamp").dt.strftime("%Y-%m").alias("month")
    table = answered.group_by(month).agg((pl.col("active_action") == pl.col("shadow_action")).mean().alias("share"))
    return dict(table.sort("month").iter_rows())
