"""Noticing that a promoted model has got worse than it was when it was judged.

Each closed day adds to a cumulative sum of what was missing against the certified mean, less a slack (Page 1954); the
sum never falls below zero, so a drop is noticed whenever it begins. Its limit is set by the chance of a false alarm in
a year (Siegmund 1985, with his correction for steps), and allows for the certified mean's own error, since a year of
replay knows it only so well.

Raw accuracy of BUY and SELL calls rises and falls with the market's volatility: a drop of 10 points in it takes months
to tell from a calm spell. What is watched is the direction, which doesn't: the return in the called direction, of which
no more than a quarter of the plan's move counts.

Direction has a weather of its own: a call that is held loses whenever the market turns. How often outcomes turn against
those just before is known afterwards, says nothing of the model, and is taken out by a regression that is fitted on the
judged days (a control variate, as Deng et al. 2013 use it).
"""

import math
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts.drift import DriftLevel
from candletune.evaluation.times import Panel
from candletune.journal import SideName

Floats = NDArray[np.float64]
Watched = Literal["direction", "log score"]
POINTS: Final = 0.10
"""Drop in accuracy on BUY and SELL that is on watch: 10 points."""
REACH: Final = 0.25
"""Share of the plan's move from which on a return counts in full: wild and calm hours weigh nearly alike."""
NATS: Final = 0.05
"""Drop in log score against the replaced model that is on watch."""
SLACK: Final = 0.4
"""Share of that drop that a day may lack without adding to the sum: a little less than half, as smaller ones count."""
LEAST_DAYS: Final = 60
"""Days of outcomes below which nobody knows how much a level moves by itself."""
YEAR: Final = 365
LEAST_ALLOWED: Final = 0.05
"""Share of a day's rows outside the training's range that is no news: values wander out for hours by themselves."""
_STEP: Final = 1.166
"""Twice Siegmund's 0.583: how far a sum of normal steps overshoots its limit, on average, at both ends."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclass(frozen=True, slots=True)
class Series:
    """One watched quantity by decision time; arrays of shape (times,).

    Attributes:
        sums: of the quantity over the rows of the time.
        rows: how many rows they are of.
        days: number of the day of each time, from 0.
        dates: of those numbers.
        overlap: later times whose outcomes share candles with one.
        drop: of the mean, that is on watch.
        market: sums over the rows of what the market did that goes with the quantity, whatever the model says.
    """

    sums: Floats
    rows: Floats
    days: NDArray[np.int64]
    dates: tuple[date, ...]
    overlap: int
    drop: float
    market: Floats

    def daily(self) -> tuple[Floats, Floats, Floats]:
        """Sums, rows and the market's part of each day."""
        totals = np.zeros((3, len(self.dates)))
        for total, values in zip(totals, (self.sums, self.rows, self.market), strict=True):
            np.add.at(total, self.days, values)
        return totals[0], totals[1], totals[2]

    def mean(self, first: int = 0) -> float | None:
        """From a day on; None where there is no row."""
        chosen = self.days >= first
        rows = float(self.rows[chosen].sum())
        return float(self.sums[chosen].sum()) / rows if rows else None


def series_of(panel: Panel, side: SideName, move: float) -> dict[Watched, Series]:
    """What is watched of one side, over whole days: the last day's later outcomes are not known yet.

    Args:
        panel: decision times of which some outcome is known; its stamps are needed.
        side: whose.
        move: of the plan's rule, `evaluate.move`.
    """
    dates = [stamp.date() for stamp in panel.stamps]
    whole = np.array([day < dates[-1] for day in dates], dtype=bool) if dates else np.zeros(0, dtype=bool)
    named = tuple(dict.fromkeys(day for day in dates if day < dates[-1]))
    number = {day: place for place, day in enumerate(named)}
    days = np.array([number[day] for day, kept in zip(dates, whole, strict=True) if kept], dtype=np.int64)
    calls, returns = panel.calls[side][whole], panel.returns[whole]
    known = np.isfinite(calls) & np.isfinite(returns)
    said, change = np.where(known, calls, 0.0), np.where(known, returns, 0.0)
    acts, reach = np.abs(said), np.clip(change / (REACH * move), -1, 1)
    coin = float((acts * (np.abs(change) > move)).sum()) / 2
    drop = POINTS * float((acts * np.abs(reach)).sum()) / coin if coin else 0.0
    overlap = panel.overlap
    found: dict[Watched, Series] = {
        "direction": Series(
            (said * reach).sum(axis=1), acts.sum(axis=1), days, named, overlap, drop, _steadiness(acts, reach, overlap)
        )
    }
    if panel.log_score is not None:
        gained = panel.log_score[whole] if side == "shadow" else -panel.log_score[whole]
        scored = known & np.isfinite(gained)
        sums = np.where(scored, gained, 0.0).sum(axis=1)
        rows = scored.sum(axis=1).astype(np.float64)
        found["log score"] = Series(sums, rows, days, named, overlap, NATS, np.zeros(len(rows)))
    return found


def _steadiness(acts: Floats, reach: Floats, overlap: int) -> Floats:
    """How far the outcomes of the rows that act go the way of those before them, (times,).

    Those of one horizon before count, the later the more: a call is held for some part of it.

    Args:
        acts: 1 for BUY and SELL, (times, tickers).
        reach: outcomes, from -1 to 1.
        overlap: see `Series`.
    """
    weights = (overlap / (overlap + 2)) ** np.arange(overlap + 1)
    lately = np.zeros_like(reach)
    for lag, weight in enumerate(weights / weights.sum(), 1):
        lately[lag:] += weight * np.sign(reach[:-lag])
    steady: Floats = (acts * reach * lately).sum(axis=1)
    return steady


def level_of(series: Series) -> DriftLevel | None:
    """What a judged model's series says of its mean and of how much that moves; None where it is too short."""
    mean = series.mean()
    if mean is None or len(series.dates) < LEAST_DAYS or not series.drop:
        return None
    values, rows, market = series.daily()
    usual = float(market.sum() / rows.sum())
    turns = market - usual * rows
    slope = float((values - mean * rows) @ turns / (turns @ turns)) if turns.any() else 0.0
    adjusted = replace(series, sums=series.sums - slope * (series.market - usual * series.rows))
    deviation = daily_deviation(adjusted, mean)
    if not deviation > 0:
        return None
    return DriftLevel(
        mean=mean,
        drop=series.drop,
        deviation=deviation,
        days=len(series.dates),
        rows_a_day=float(rows.mean()),
        slope=slope,
        usual=usual,
    )


def daily_deviation(series: Series, mean: float) -> float:
    """Standard deviation of a day's sum around the mean's, with the covariances of overlapping outcomes.

    Outcomes that share no candle add none: their surprises are those of different hours.
    """
    terms = series.sums - mean * series.rows
    variance = alone = float(terms @ terms)
    for lag in range(1, min(series.overlap, len(terms) - 1) + 1):
        variance += 2 * float(terms[lag:] @ terms[:-lag])
    return math.sqrt(max(variance, alone / 4, 0.0) / max(1, len(series.dates)))


def alarm_limit(level: DriftLevel, chance: float) -> float:
    """The sum at which to raise an alarm, of a chance of a false one within a year.

    Args:
        level: certified mean, its days and deviation.
        chance: between 0 and 1.
    """
    slack = SLACK * level.drop * level.rows_a_day / level.deviation
    low, high = 0.0, 1.0
    while _false_alarms(high, slack, level.days) > chance and high < 1e4:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _false_alarms(middle, slack, level.days) > chance else (low, middle)
    return high * level.deviation


def _false_alarms(limit: float, slack: float, days: int) -> float:
    """Chance of an alarm within a year without any drop, in units of the daily deviation.

    The certified mean is off by its own standard error, which widens or narrows the slack for the whole year; the
    chance is averaged over that.
    """
    slacks = slack + _NODES / math.sqrt(days)
    slacks = np.where(np.abs(slacks) < 1e-3, 1e-3, slacks)
    reach = 2 * slacks * (limit + _STEP)
    days_between = (np.expm1(np.minimum(reach, 600.0)) - reach) / (2 * slacks**2)
    return float(_WEIGHTS @ -np.expm1(-YEAR / days_between) / _WEIGHTS.sum())


@dataclass(frozen=True, slots=True)
class Standing:
    """The sum over the days watched so far.

    Attributes:
        height: of the sum now, as a share of its limit.
        began: number of the day on which what it holds now, or held at the alarm, began.
        alarm: number of the day of the first alarm.
    """

    height: float
    began: int
    alarm: int | None


def follow(series: Series, level: DriftLevel, limit: float) -> Standing:
    """Add up the days, and find the first alarm.

    Args:
        series: of the model since its promotion.
        level: that it was certified at.
        limit: see `alarm_limit`.
    """
    total, began = 0.0, 0
    for day, (value, rows, market) in enumerate(zip(*series.daily(), strict=True)):
        expected = level.mean * rows + level.slope * (market - level.usual * rows)
        before, total = total, max(0.0, total + expected - SLACK * level.drop * rows - value)
        began = day if before == 0 else began
        if total >= limit:
            return Standing(total / limit, began, day)
    return Standing(total / limit, began, None)


class Outside:
    """Evidence that a share, day by day, is larger than it may be: a sequence of bets that begins anew every day.

    The sum of such sequences (Shiryaev and Roberts) grows by at most one a day while the share expected from all days
    before is what it may be, so the chance that it passes `days / chance` within so many days is at most `chance`.

    Args:
        allowed: the largest share that is no news, in (0, 1).
        evidence: by bet; a new one begins with nothing.
    """

    BETS = (0.1, 0.5)

    def __init__(self, allowed: float, evidence: tuple[float, ...] = ()) -> None:
        self.allowed = allowed
        self.evidence = evidence or (0.0,) * len(self.BETS)

    def add(self, share: float) -> float:
        """A day's share; returns the evidence so far."""
        self.evidence = tuple(
            min(1e300, (held + 1) * (1 + bet / self.allowed * (share - self.allowed)))
            for held, bet in zip(self.evidence, self.BETS, strict=True)
        )
        return self.total

    @property
    def total(self) -> float:
        """The evidence so far."""
        return sum(self.evidence) / len(self.evidence)


def outside_limit(sequences: int, chance: float) -> float:
    """The evidence at which one of so many `Outside` raises an alarm, of a chance of a false one within a year."""
    return YEAR * max(1, sequences) / chance
