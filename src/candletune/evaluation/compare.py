"""The candidate against the incumbent, paired in time: the gain, its intervals, and how much was really seen."""

import math
from typing import Final

import numpy as np
import polars as pl

from candletune.artifacts.metrics import Comparison, Interval
from candletune.config import Config, EvaluateConfig
from candletune.evaluation.bounds import (
    LEAST_MONTHS,
    MONTH,
    Estimate,
    boundary,
    days_needed,
    difference,
    estimate,
    from_terms,
    one_look,
    ratio_terms,
)
from candletune.evaluation.budget import Level
from candletune.evaluation.metrics import agreement
from candletune.evaluation.statistics import Ratio
from candletune.evaluation.times import Times, drawdown, times_of

SELDOM: Final = 0.1
"""An incumbent acts seldom with fewer calls than this share of the candidate's: whoever acts more changes more often.
It is silent when its calls are also too few to know how good they are."""
_NOTHING: Final = Interval(value=None, low=None, high=None)


def compare(scored: pl.DataFrame, config: Config, level: Level | None = None) -> Comparison:
    """Everything about the difference, from scored rows (at least one).

    Args:
        scored: see `outcomes.score_rows`.
        config: limits and horizon.
        level: what a bound may spend of the error budget; none: all of it, at every look.
    """
    answered = (scored["active_status"] == "ok") & (scored["shadow_status"] == "ok")
    times = times_of(scored, config.horizon, config.evaluate)
    return compare_times(
        times, config.evaluate, level, agreement=agreement(scored), coverage=float(answered.sum()) / len(scored)
    )


def compare_times(
    times: Times, limits: EvaluateConfig, level: Level | None = None, *, agreement: float | None, coverage: float
) -> Comparison:
    """Every paired difference with its intervals, and how much they are worth (see `Comparison`)."""
    level = level or Level(1 - limits.confidence)
    mine, other = times.sides["shadow"], times.sides["active"]
    own = {side: estimate(Ratio(part.hits, part.signals), times.grid) for side, part in times.sides.items()}
    seldom = bool(other.signals.sum() < SELDOM * mine.signals.sum())
    silent = seldom and (own["active"] is None or own["active"].effective < limits.min_effective)
    gain, beyond = _gain(times, silent=silent), _beyond(times, silent=silent)
    factor = _factor(times, limits, level)
    # What is wanted counts as excluded only when it surely is, so both ends share the error.
    margin = _factor(times, limits, Level(level.alpha / 2, level.one_look))
    return Comparison(
        accuracy_signals=_interval(gain, limits.confidence),
        sides={side: _share(_interval(found, limits.confidence)) for side, found in own.items()},
        standard_error=gain.windows if gain is not None and math.isfinite(gain.windows) else None,
        sequential=_within(gain, margin, most=1.0),
        # A call that moves the whole way or more is right by one where a coin is by a half: points of graded accuracy.
        beyond_chance=_within(beyond, factor, 1 / (2 * limits.move), most=1.0),
        direction=_within(estimate(Ratio(mine.direction, mine.signals), times.grid), factor, most=2 * limits.move),
        signed_return=_interval(estimate(Ratio(mine.signed, mine.signals), times.grid), limits.confidence),
        flips=_interval(None if seldom else _flip_increase(times), limits.confidence),
        net_return=_net_return(times, limits),
        drawdown={side: drawdown(part.net) for side, part in times.sides.items()}
        | {"holding": drawdown(times.holding)},
        log_score=_within(estimate(times.log_score, times.grid), factor),
        against="coin" if silent else "incumbent",
        effective=round(_effective(gain, own, silent=silent), 1),
        overlap=times.overlap,
        block=round(block_length(times.overlap, len(times)), 2),
        days=times.days,
        days_needed=None
        if beyond is None
        else days_needed(beyond, times.days, level.alpha, None if level.one_look else limits.planned_days),
        agreement=agreement,
        coverage=coverage,
        windows=round(times.windows, 1),
        months=times.grid.months,
        alpha=level.alpha,
        one_look=level.one_look,
    )


def block_length(overlap: int, count: int) -> float:
    """Mean length of a bootstrap block in decision times: twice the overlapping windows, and more on long series."""
    return float(max(2.0 * (overlap + 1), count ** (1 / 3)))


def days_to_evidence(comparison: Comparison, config: Config) -> float:
    """Days until everything that counts time may be there, at the pace and with the gain and noise so far.

    That is `evaluate.min_effective` independent signals, the least months, and a bound above zero where the gain is.
    Before the first signal with an outcome there is no pace; then it is the time of as many windows side by side.
    """
    wanted, days = config.evaluate.min_effective, comparison.days
    if comparison.effective and days:
        signals = days * (wanted / comparison.effective - 1)
    else:
        signals = (wanted - comparison.effective) * config.horizon.total_seconds() / 86_400
    gain = comparison.beyond_chance.value or 0.0
    bound = 0.0 if comparison.days_needed is None or gain <= 0 else comparison.days_needed - days
    return max(0.0, signals, LEAST_MONTHS * MONTH - days, bound)


def _gain(times: Times, *, silent: bool) -> Estimate | None:
    """BUY/SELL accuracy minus the incumbent's, or minus that of a coin at the same hours."""
    mine, other = times.sides["shadow"], times.sides["active"]
    if silent:
        return estimate(Ratio(mine.hits - mine.coin, mine.signals), times.grid)
    return difference(Ratio(mine.hits, mine.signals), Ratio(other.hits, other.signals), times.grid)


def _beyond(times: Times, *, silent: bool) -> Estimate | None:
    """Direction a call minus the incumbent's; a coin has none."""
    mine, other = (Ratio(side.direction, side.signals) for side in (times.sides["shadow"], times.sides["active"]))
    return estimate(mine, times.grid) if silent else difference(mine, other, times.grid)


def _flip_increase(times: Times) -> Estimate | None:
    """The relative increase of the flip rate; None where the incumbent never flips."""
    mine, other = (Ratio(side.flips, side.pairs) for side in (times.sides["shadow"], times.sides["active"]))
    before, after = other.value, mine.value
    terms, others = ratio_terms(mine), ratio_terms(other)
    if not before or after is None or terms is None or others is None:
        return None
    both = terms / before - others * (after / before**2)
    return from_terms(after / before - 1, both, int((mine.counts > 0).sum()), times.grid)


def _net_return(times: Times, limits: EvaluateConfig) -> Interval:
    """Over the whole time, at every look.

    With twice the error of the other bounds: returns are noisier than calls, and it decides beside those, not alone.
    """
    paired = times.sides["shadow"].net - times.sides["active"].net
    found = estimate(Ratio(paired, np.ones_like(paired)), times.grid)
    if found is None:
        return _NOTHING
    factor = boundary(times.days, limits.planned_days, 2 * (1 - limits.confidence))
    return found.within(factor, times=len(paired))


def _effective(gain: Estimate | None, own: dict[str, Estimate | None], *, silent: bool) -> float:
    """Of the gain's own series, and at most what the side with fewer calls is worth."""
    counted = [gain, own["shadow"], *(() if silent else (own["active"],))]
    return min(0.0 if part is None else part.effective for part in counted)


def _factor(times: Times, limits: EvaluateConfig, level: Level) -> float:
    return one_look(level.alpha) if level.one_look else boundary(times.days, limits.planned_days, level.alpha)


def _within(found: Estimate | None, factor: float, times: float = 1.0, most: float = math.inf) -> Interval:
    return _NOTHING if found is None else found.within(factor, times, most)


def _interval(found: Estimate | None, confidence: float) -> Interval:
    return _NOTHING if found is None else found.interval(confidence)


def _share(interval: Interval) -> Interval:
    """Ends within what a share can be."""
    if interval.bounds is None:
        return interval
    low, high = interval.bounds
    return Interval(value=interval.value, low=max(0.0, low), high=min(1.0, high))
