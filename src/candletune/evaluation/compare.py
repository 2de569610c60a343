"""The candidate against the incumbent, paired in time: the gain, its intervals, and how much was really seen."""

import math
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config, EvaluateConfig
from candletune.evaluation.metrics import agreement
from candletune.evaluation.statistics import (
    Interval,
    Ratio,
    bootstrap_difference,
    days_needed,
    effective_size,
    sequential_factor,
)
from candletune.journal import SIDES

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Times:
    """Sums over the tickers of each decision time, in time order; arrays of shape (times,).

    Attributes:
        signals: BUY and SELL decisions with a known outcome, by side.
        hits: the correct ones among them, by side.
        signed: returns in the called direction, summed, of the candidate's.
        overlap: decision times that follow within one horizon, whose windows share candles.
        days: from the first to the last.
    """

    signals: dict[str, Floats]
    hits: dict[str, Floats]
    signed: Floats
    overlap: int
    days: float


def compare(scored: pl.DataFrame, config: Config) -> dict[str, Any]:
    """Everything about the difference, from scored rows in time order."""
    both = (scored["active_status"] == "ok") & (scored["shadow_status"] == "ok")
    return {
        **compare_times(times_of(scored, config), config.evaluate, config.seed),
        "agreement": agreement(scored),
        "coverage": float(both.sum()) / len(scored),
    }


def times_of(scored: pl.DataFrame, config: Config) -> Times:
    """Aggregate scored rows by decision time."""
    known = scored.filter(pl.col("forward_return").is_not_null())
    columns = []
    for side in SIDES:
        acts = pl.col(f"{side}_acts").fill_null(value=False)
        hit = acts & pl.col(f"{side}_correct").fill_null(value=False)
        columns += [
            acts.sum().cast(pl.Float64).alias(f"{side}_signals"),
            hit.sum().cast(pl.Float64).alias(f"{side}_hits"),
        ]
    times = known.group_by("timestamp", maintain_order=True).agg(*columns, pl.col("shadow_signed").sum())
    stamps = times["timestamp"]
    days = 0.0 if times.is_empty() else (stamps.to_list()[-1] - stamps.to_list()[0]) / timedelta(days=1)
    return Times(
        {side: times[f"{side}_signals"].to_numpy() for side in SIDES},
        {side: times[f"{side}_hits"].to_numpy() for side in SIDES},
        times["shadow_signed"].to_numpy(),
        _overlap(stamps, config),
        days,
    )


def compare_times(times: Times, limits: EvaluateConfig, seed: int) -> dict[str, Any]:
    """The gain on BUY/SELL signals with its intervals, the mean signed return, and the effective sample size."""
    count = len(times.signed)
    ratios = {side: Ratio(times.hits[side], times.signals[side]) for side in SIDES}
    block = block_length(times.overlap, count)
    settings: dict[str, Any] = {
        "block": block,
        "resamples": limits.resamples,
        "confidence": limits.confidence,
        "seed": seed,
    }
    gain, error = bootstrap_difference(ratios["shadow"], ratios["active"], **settings)
    signed, _ = bootstrap_difference(Ratio(times.signed, times.signals["shadow"]), None, **settings)
    sides = {side: asdict(bootstrap_difference(ratio, None, **settings)[0]) for side, ratio in ratios.items()}
    effective = _effective(times)
    # Promotion asks one side only, so the level is spent there: twice of it for an interval with both ends.
    factor = sequential_factor(effective, 2 * (1 - limits.confidence))
    return {
        "accuracy_signals": asdict(gain),
        "sides": sides,
        "standard_error": error if math.isfinite(error) else None,
        "sequential": asdict(_sequential(gain, error, factor)),
        "signed_return": asdict(signed),
        "effective": round(effective, 1),
        "overlap": times.overlap,
        "block": round(block, 2),
        "days": times.days,
        "days_needed": days_needed(gain.value, error, times.days, 0.0, factor),
    }


def block_length(overlap: int, count: int) -> float:
    """Mean length of a bootstrap block in decision times: twice the overlapping windows, and more on long series."""
    return float(max(2.0 * (overlap + 1), count ** (1 / 3)))


def _effective(times: Times) -> float:
    """At most as many observations as there are times with a signal of the candidate: tickers move together."""
    acting = times.signals["shadow"] > 0
    if not acting.any():
        return 0.0
    return effective_size(times.hits["shadow"][acting] / times.signals["shadow"][acting], times.overlap)


def _sequential(gain: Interval, error: float, factor: float) -> Interval:
    if gain.value is None or not math.isfinite(error):
        return Interval(gain.value, None, None)
    return Interval(gain.value, gain.value - factor * error, gain.value + factor * error)


def _overlap(times: pl.Series, config: Config) -> int:
    if len(times) < 2:
        return 0
    horizon = config.horizon
    step = times.diff().drop_nulls().median()
    assert isinstance(step, timedelta)  # noqa: S101 - the median of durations
    return max(0, math.ceil(horizon / step) - 1)
