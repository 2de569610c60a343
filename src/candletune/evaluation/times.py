"""Scored rows by decision time: what comparison, criteria, report and live page all count on."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import EvaluateConfig
from candletune.decisions import DECISIONS
from candletune.evaluation.bounds import Grid, grid_of
from candletune.evaluation.statistics import Ratio
from candletune.journal import SIDES

Floats = NDArray[np.float64]
FUNDING_HOURS: Final = 8.0
"""Hours between two funding payments of a perpetual future."""
_LEAST_PROBABILITY: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Panel:
    """A journal as matrices of decision times by tickers; NaN where there is no row, no answer or no outcome.

    Attributes:
        returns: forward returns.
        calls: by side: 1 BUY, -1 SELL, 0 HOLD.
        log_score: log probability of the outcome's class, candidate minus incumbent.
        elapsed: days since the first decision time, (times,).
        horizon: hours from a decision to its outcome.
        stamps: the decision times; empty where nobody needs them.
    """

    returns: Floats
    calls: dict[str, Floats]
    elapsed: Floats
    horizon: float
    log_score: Floats | None = None
    stamps: tuple[datetime, ...] = ()

    @property
    def overlap(self) -> int:
        """Later decision times that follow within one horizon."""
        steps = np.diff(self.elapsed)
        return max(0, math.ceil(self.horizon / 24 / float(np.median(steps)) - 1e-9) - 1) if len(steps) else 0


@dataclass(frozen=True, slots=True)
class SideTimes:
    """Sums over the tickers of each decision time on which both sides answered and the outcome is known; (times,) each.

    Attributes:
        signals: BUY and SELL decisions.
        hits: the correct ones among them.
        coin: what a coin thrown in place of each signal would have hit.
        direction: returns in the called direction, each counted up to the move, free of drift.
        signed: returns in the called direction as they are.
        net: portfolio's return after fees and funding, see `net_returns`.
        flips: decisions that differ from the ticker's one before.
        pairs: decisions that have one before.
    """

    signals: Floats
    hits: Floats
    coin: Floats
    direction: Floats
    signed: Floats
    net: Floats
    flips: Floats
    pairs: Floats


@dataclass(frozen=True, slots=True)
class Times:
    """Both sides by decision time, in time order.

    Attributes:
        sides: by side.
        log_score: paired log score of the outcome's class, candidate minus incumbent, and rows that have one.
        holding: return of holding every ticker, as `SideTimes.net` counts it.
        grid: the decision times.
        stamps: they themselves; empty where nobody needs them.
    """

    sides: dict[str, SideTimes]
    log_score: Ratio
    holding: Floats
    grid: Grid
    stamps: tuple[datetime, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.holding)

    @property
    def overlap(self) -> int:
        """Later decision times whose windows share candles with one."""
        return self.grid.overlap

    @property
    def days(self) -> float:
        """From the first decision time to the last."""
        return self.grid.days

    @property
    def windows(self) -> float:
        """Outcome windows that lie side by side without overlapping."""
        return len(self) / (self.overlap + 1)


def times_of(scored: pl.DataFrame, horizon: timedelta, limits: EvaluateConfig | None = None) -> Times:
    """Aggregate scored rows (see `outcomes.score_rows`) by decision time.

    Args:
        scored: rows in any order.
        horizon: from a decision to its outcome.
        limits: move, fee and funding; none: the defaults.
    """
    return sum_times(panel_of(scored, horizon), limits or EvaluateConfig())


def panel_of(scored: pl.DataFrame, horizon: timedelta) -> Panel:
    """Rows as matrices; decision times at which no outcome is known are left out."""
    rows = scored.filter(pl.col("forward_return").is_not_null().any().over("timestamp")).sort("timestamp")
    stamps = tuple(rows["timestamp"].unique(maintain_order=True).to_list())
    place = rows.select(
        (pl.col("timestamp").rank("dense") - 1).cast(pl.Int64).alias("time"),
        (pl.col("ticker").rank("dense") - 1).cast(pl.Int64).alias("column"),
    )
    at = (place["time"].to_numpy(), place["column"].to_numpy())
    shape = (len(stamps), rows["ticker"].n_unique())

    def matrix(values: pl.Series) -> Floats:
        filled = np.full(shape, np.nan)
        filled[at] = values.cast(pl.Float64).to_numpy()
        return filled

    positions = {"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}
    return Panel(
        matrix(rows["forward_return"]),
        {
            side: matrix(rows[f"{side}_action"].cast(pl.String).replace_strict(positions, return_dtype=pl.Float64))
            for side in SIDES
        },
        np.array([(stamp - stamps[0]) / timedelta(days=1) for stamp in stamps]),
        horizon / timedelta(hours=1),
        log_score=matrix(scores) if (scores := _log_scores(rows)) is not None else None,
        stamps=stamps,
    )


def _log_scores(rows: pl.DataFrame) -> pl.Series | None:
    """Log probability of the outcome's class by the labels' own rule, candidate minus incumbent; None without any."""
    names = [f"{side}_p_{name.lower()}" for side in SIDES for name in DECISIONS]
    if not {"outcome", *names} <= set(rows.columns):
        return None
    scores = {}
    for side in SIDES:
        chance = pl.coalesce(
            pl.when(pl.col("outcome") == name).then(pl.col(f"{side}_p_{name.lower()}").cast(pl.Float64))
            for name in DECISIONS
        )
        scores[side] = chance.clip(lower_bound=_LEAST_PROBABILITY).log()
    return rows.select((scores["shadow"] - scores["active"]).alias("score"))["score"]


def sum_times(panel: Panel, limits: EvaluateConfig) -> Times:
    """Sums by decision time over the rows that both sides answered and whose outcome is known."""
    overlap = panel.overlap
    known = np.isfinite(panel.returns)
    for calls in panel.calls.values():
        known &= np.isfinite(calls)
    each = known.astype(np.float64)
    returns = np.where(known, panel.returns, 0.0)
    count = np.maximum(each.sum(axis=0), 1.0)
    bounded = np.clip(returns, -limits.move, limits.move)
    free = bounded - each * (bounded.sum(axis=0) / count)
    moved = (np.abs(returns) > limits.move).astype(np.float64)
    sides = {}
    for side, calls in panel.calls.items():
        said = np.where(known, calls, 0.0)
        acts = np.abs(said)
        flips, pairs = _flips(calls)
        sides[side] = SideTimes(
            signals=_over_tickers(acts),
            hits=_over_tickers((said * returns > limits.move).astype(np.float64)),
            coin=_over_tickers(acts, moved) / 2,
            direction=_over_tickers(said, free),
            signed=_over_tickers(said, returns),
            net=net_returns(said, returns, overlap, panel.horizon, limits),
            flips=flips,
            pairs=pairs,
        )
    scores = each * 0.0 if panel.log_score is None else np.where(known, panel.log_score, np.nan)
    scored = (np.isfinite(scores) & (panel.log_score is not None)).astype(np.float64)
    return Times(
        sides,
        Ratio(_over_tickers(np.nan_to_num(scores)), _over_tickers(scored)),
        _over_tickers(returns) / (max(returns.shape[1], 1) * (overlap + 1)),
        grid_of(panel.elapsed, overlap),
        panel.stamps,
    )


def _over_tickers(values: Floats, others: Floats | None = None) -> Floats:
    """Sum over the tickers of each time, of the product with `others` if any; faster than `sum(axis=1)` on few."""
    found: Floats = values @ np.ones(values.shape[1]) if others is None else np.einsum("tc,tc->t", values, others)
    return found


def net_returns(said: Floats, returns: Floats, overlap: int, horizon: float, limits: EvaluateConfig) -> Floats:
    """What acting on the calls earns, by decision time, as a share of the capital; (times,).

    Every decision time puts an equal part of each ticker's capital into its call and holds it for the horizon (the
    overlapping portfolio of Jegadeesh and Titman 1993), so that what is earned is what the calls are judged by. A fee
    is paid on every change of the ticker's whole position, and funding by a long part (received by a short one).

    Args:
        said: 1 BUY, -1 SELL, 0 HOLD or nothing, (times, tickers).
        returns: over the horizon, (times, tickers).
        overlap: parts that are held beside one.
        horizon: hours.
        limits: `fee` a unit of turnover, `funding` every eight hours.
    """
    if not said.size:
        return np.zeros(len(said))
    parts = overlap + 1
    gone = np.concatenate([np.zeros((parts, said.shape[1])), said])[: len(said)]
    turnover = np.abs(said - gone) / parts
    held = said * (returns - limits.funding * horizon / FUNDING_HOURS) / parts
    net: Floats = _over_tickers(held - limits.fee * turnover) / said.shape[1]
    return net


def drawdown(net: Floats) -> float:
    """Maximum drawdown: deepest fall below an earlier height of the capital, as a share of it."""
    if not len(net):
        return 0.0
    curve = np.cumprod(1 + net)
    return float((1 - curve / np.maximum.accumulate(np.maximum(curve, 1.0))).max())


def _flips(calls: Floats) -> tuple[Floats, Floats]:
    """Changes against the ticker's last answer, and answers that have one before; by decision time."""
    answered = np.isfinite(calls)
    rows = np.where(answered, np.arange(len(calls))[:, None], -1)
    before = np.full_like(rows, -1)
    if len(calls) > 1:
        before[1:] = np.maximum.accumulate(rows, axis=0)[:-1]
    pairs = answered & (before >= 0)
    last = np.take_along_axis(calls, np.maximum(before, 0), axis=0) if calls.size else calls
    return _over_tickers((pairs & (calls != last)).astype(np.float64)), _over_tickers(pairs.astype(np.float64))
