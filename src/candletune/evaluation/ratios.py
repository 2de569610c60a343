"""Risk and reward of acting on the calls, by the formulas that traders know, from daily returns.

Sharpe, Sortino and Calmar are empyrical's (`empyrical-reloaded`, Quantopian's formulas, with 365 days a year: no
weekend here), the profit factor QuantStats'. A test computes them with empyrical on the same returns.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.evaluation.metrics import POSITION, portfolio_returns

DAYS: Final = 365
"""Trading days a year."""
LEAST_DAYS: Final = 20
"""Below so many days a ratio of a year says nothing."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """What acting on a model, or holding, was like; None: undefined, or too few days.

    Attributes:
        total: what the whole time brought: compounded, or the plain sum at a constant stake.
        sharpe: mean daily return over its standard deviation, a year's.
        sortino: the same over the downside deviation alone.
        calmar: growth a year over the maximum drawdown.
        profit_factor: gains of the winning days over losses of the losing ones.
        drawdown: the deepest fall from a peak, a fraction (of the stake, where not compounded).
        exposure: share of the time that capital was in a position.
        turnover: positions' value traded over the capital, a day.
        days: seen.
    """

    total: float
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    profit_factor: float | None
    drawdown: float
    exposure: float | None
    turnover: float | None
    days: int


def daily(table: pl.DataFrame, column: str) -> pl.Series:
    """Returns by UTC day from those of `portfolio_returns`, compounded within a day; a day without any is a zero."""
    days = (
        table.group_by_dynamic("timestamp", every="1d")
        .agg(((pl.col(column) + 1).product() - 1).alias(column))
        .upsample("timestamp", every="1d")
    )
    return days[column].fill_null(0.0)


def ratios_of(scored: pl.DataFrame, side: str, fee: float, *, compounded: bool = True) -> Ratios | None:
    """Ratios of acting on a side's calls after fees, or of holding (`market`); None without a row.

    Args:
        scored: see `outcomes.score_rows`.
        side: `active`, `shadow` or `market`.
        fee: a unit of turnover.
        compounded: False: total and drawdown are of the plain sum of returns, at a constant stake, and what needs
            compounding is None.
    """
    holding = side == "market"
    table = portfolio_returns(scored, "shadow" if holding else side, fee)
    if table.is_empty():
        return None
    column = "market" if holding else "net"
    returns = table[column].to_numpy()
    by_day = daily(table, column).to_numpy()
    curve = np.cumprod(1 + returns) if compounded else 1 + np.cumsum(returns)
    peak = np.maximum.accumulate(np.maximum(curve, 1.0))
    fall = float(((peak - curve) / (peak if compounded else 1.0)).max())
    enough = len(by_day) >= LEAST_DAYS
    return Ratios(
        total=float(curve[-1] - 1),
        sharpe=sharpe(by_day) if enough else None,
        sortino=sortino(by_day) if enough else None,
        calmar=calmar(by_day) if enough and compounded else None,
        profit_factor=profit_factor(by_day) if enough else None,
        drawdown=fall,
        exposure=1.0 if holding else exposure(scored, side),
        turnover=None if holding else float(table["turn"].sum()) / len(by_day),
        days=len(by_day),
    )


Returns = NDArray[np.float64]


def sharpe(returns: Returns) -> float | None:
    """Mean over standard deviation (n - 1), times the root of the days a year (Sharpe 1994, riskless rate 0)."""
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean()) / deviation * DAYS**0.5 if deviation > 0 else None


def sortino(returns: Returns) -> float | None:
    """Mean over the root mean square of the negative returns, a year's (Sortino and Price 1994, target 0)."""
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean()) * DAYS / (downside * DAYS**0.5) if downside > 0 else None


def calmar(returns: Returns) -> float | None:
    """Compound growth a year over the maximum drawdown (Young 1991); None without a drawdown."""
    curve = np.concatenate([[1.0], np.cumprod(1 + returns)])
    fall = float((1 - curve / np.maximum.accumulate(curve)).max())
    growth = max(float(curve[-1]), 0.0) ** (DAYS / len(returns)) - 1
    return growth / fall if fall > 0 else None


def profit_factor(returns: Returns) -> float | None:
    """Sum of the gains over the sum of the losses; None without a loss."""
    losses = float(-returns[returns < 0].sum())
    return float(returns[returns > 0].sum()) / losses if losses > 0 else None


def exposure(scored: pl.DataFrame, side: str) -> float | None:
    """Share of the rows, over all tickers, that a position was held; a row without an answer keeps the last one."""
    position = pl.col(f"{side}_action").replace_strict(POSITION, return_dtype=pl.Float64)
    held = scored.sort("ticker", "timestamp").select(
        position.forward_fill().over("ticker").fill_null(0.0).abs().alias("held")
    )["held"]
    mean = held.mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """A time below a peak.

    Attributes:
        start: of the peak.
        lowest: of the deepest point.
        end: when the peak was reached again; None: not yet.
        depth: a fraction of the peak (of the stake, where not compounded).
        days: from the peak to the end, or to the last row; a day that has begun counts.
    """

    start: datetime
    lowest: datetime
    end: datetime | None
    depth: float
    days: int


def worst_drawdowns(
    scored: pl.DataFrame, side: str, fee: float, *, compounded: bool = True, count: int = 5
) -> list[Drawdown]:
    """The deepest times below a peak that do not overlap, deepest first; arguments as in `ratios_of`."""
    holding = side == "market"
    table = portfolio_returns(scored, "shadow" if holding else side, fee)
    if table.is_empty():
        return []
    returns = table["market" if holding else "net"].to_numpy()
    # What a row brings is there at the time of the next one; the last row's brings its fee alone.
    times = [*table["timestamp"], table["timestamp"][-1]]
    curve = np.concatenate([[1.0], np.cumprod(1 + returns) if compounded else 1 + np.cumsum(returns)])
    peaks = np.maximum.accumulate(curve)
    below = (peaks - curve) / (peaks if compounded else 1.0)
    found = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below > 0, [False]])))
    for first, after in edges.reshape(-1, 2):
        lowest = first + int(below[first:after].argmax())
        start, end = times[first - 1], times[after] if after < len(curve) else None
        days = math.ceil(((end or times[-1]) - start) / timedelta(days=1))
        found.append(Drawdown(start, times[lowest], end, float(below[lowest]), days))
    return sorted(found, key=lambda fall: -fall.depth)[:count]


def by_month(scored: pl.DataFrame, side: str, fee: float, *, compounded: bool = True) -> dict[str, float]:
    """Return after fees by month, `2024-07` -> a fraction; side as in `ratios_of`.

    Not compounded, it is the mean return from one decision time to the next.
    """
    holding = side == "market"
    table = portfolio_returns(scored, "shadow" if holding else side, fee)
    value = pl.col("market" if holding else "net")
    month = pl.col("timestamp").dt.strftime("%Y-%m").alias("month")
    grown = (value + 1).product() - 1 if compounded else value.mean()
    return dict(table.group_by(month).agg(grown.alias("return")).sort("month").iter_rows())
