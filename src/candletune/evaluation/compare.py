"""The candidate against the incumbent, paired in time: the gain, its intervals, and how much was really seen."""

import math
from functools import partial

import polars as pl

from candletune.artifacts.metrics import Comparison, Interval
from candletune.config import Config, EvaluateConfig
from candletune.evaluation.budget import Level
from candletune.evaluation.metrics import agreement
from candletune.evaluation.statistics import (
    Ratio,
    bootstrap_difference,
    days_needed,
    one_look_factor,
    sequential_factor,
)
from candletune.evaluation.times import Times, times_of
from candletune.journal import SIDES


def compare(scored: pl.DataFrame, config: Config, level: Level | None = None) -> Comparison:
    """Everything about the difference, from scored rows (at least one); `level` as in `compare_times`."""
    answered = (scored["active_status"] == "ok") & (scored["shadow_status"] == "ok")
    times = times_of(scored, config.horizon)
    return compare_times(
        times,
        config.evaluate,
        config.seed,
        agreement=agreement(scored),
        coverage=float(answered.sum()) / len(scored),
        level=level,
    )


def compare_times(
    times: Times,
    limits: EvaluateConfig,
    seed: int,
    *,
    agreement: float | None,
    coverage: float,
    level: Level | None = None,
) -> Comparison:
    """The gain on BUY/SELL signals with its intervals, the mean signed return, and the effective sample size.

    Args:
        times: sums by decision time.
        limits: of the rule.
        seed: of the bootstrap.
        agreement, coverage: of the rows.
        level: the error that promotion may make, of the budget; none: all of it, at every look.
    """
    level = level or Level(1 - limits.confidence)
    ratios = {side: Ratio(times.hits[side], times.signals[side]) for side in SIDES}
    block = block_length(times.overlap, len(times))
    bootstrap = partial(
        bootstrap_difference, block=block, resamples=limits.resamples, confidence=limits.confidence, seed=seed
    )
    gain, error = bootstrap(ratios["shadow"], ratios["active"])
    signed, _ = bootstrap(Ratio(times.signed, times.signals["shadow"]), None)
    effective = times.effective("shadow")
    # Promotion asks one side only, so the level is spent there: twice of it for an interval with both ends.
    factor = (
        one_look_factor(effective, level.alpha) if level.one_look else sequential_factor(effective, 2 * level.alpha)
    )
    return Comparison(
        accuracy_signals=gain,
        sides={side: bootstrap(ratio, None)[0] for side, ratio in ratios.items()},
        standard_error=error if math.isfinite(error) else None,
        sequential=_sequential(gain, error, factor),
        signed_return=signed,
        effective=round(effective, 1),
        overlap=times.overlap,
        block=round(block, 2),
        days=times.days,
        days_needed=days_needed(gain.value, error, times.days, 0.0, factor),
        agreement=agreement,
        coverage=coverage,
        windows=round(times.windows, 1),
    )


def block_length(overlap: int, count: int) -> float:
    """Mean length of a bootstrap block in decision times: twice the overlapping windows, and more on long series."""
    return float(max(2.0 * (overlap + 1), count ** (1 / 3)))


def days_to_evidence(comparison: Comparison, config: Config) -> float:
    """Days until `evaluate.min_effective` independent signals are there, at the pace so far.

    Before the first signal with an outcome there is no pace; then it is the time of as many windows side by side.
    """
    wanted = config.evaluate.min_effective
    if comparison.effective and comparison.days:
        return max(0.0, comparison.days * (wanted / comparison.effective - 1))
    return max(0.0, wanted - comparison.effective) * config.horizon.total_seconds() / 86_400


def _sequential(gain: Interval, error: float, factor: float) -> Interval:
    if gain.value is None or not math.isfinite(error):
        return Interval(value=gain.value, low=None, high=None)
    return Interval(value=gain.value, low=gain.value - factor * error, high=gain.value + factor * error)
