"""Candidates of several runs against each other, paired on the decision times that both answered."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

import numpy as np
import polars as pl

from candletune.artifacts.metrics import Interval
from candletune.decisions import DECISIONS
from candletune.evaluation.beaten import holm, lead_p_value
from candletune.evaluation.bounds import difference, estimate, grid_of, one_look
from candletune.evaluation.outcomes import correct
from candletune.evaluation.statistics import Floats, Ratio

Finding = Literal["better", "worse", "no difference shown", "not comparable"]
_LEAST: Final = 1e-6
_NOTHING: Final = Interval(value=None, low=None, high=None)
_KEYS: Final = ("timestamp", "ticker")
_CHANCES: Final = tuple(f"shadow_p_{name.lower()}" for name in DECISIONS)
_COLUMNS: Final = (*_KEYS, "forward_return", "outcome", "shadow_action", *_CHANCES)


@dataclass(frozen=True, slots=True)
class Paired:
    """A run's candidate against the reference's, on the decision times that both answered.

    Attributes:
        rows: answered by both, with a known outcome.
        gain: BUY/SELL accuracy minus the reference's; the interval of one look, over windows and months.
        log_score: mean log probability of the outcome's class minus the reference's, in nats.
        p_value: how often such a gain, to either side, comes of no true one; None where a side makes no call.
        adjusted: the same for all runs of the comparison asked at once (Holm 1979).
        finding: what that says.
        problem: why they cannot be compared; empty where they can.
    """

    rows: int = 0
    gain: Interval = _NOTHING
    log_score: Interval = _NOTHING
    p_value: float | None = None
    adjusted: float | None = None
    finding: Finding = "not comparable"
    problem: str = ""


def compare_runs(
    scored: Mapping[str, pl.DataFrame], reference: str, *, move: float, horizon: timedelta, confidence: float
) -> dict[str, Paired]:
    """Every other run's candidate against the reference's, with Holm's correction for how many they are.

    Args:
        scored: by run, see `outcomes.score_rows`.
        reference: name of the one that the others are held against.
        move: that makes a call right.
        horizon: from a decision to its outcome.
        confidence: of the intervals; one minus it is the error of all findings together.
    """
    mine = _answers(scored[reference])
    found = {
        name: _pair(_answers(rows), mine, move, horizon, confidence)
        for name, rows in scored.items()
        if name != reference
    }
    adjusted = holm({name: pair.p_value for name, pair in found.items() if pair.p_value is not None})
    return {name: _judged(pair, adjusted.get(name), 1 - confidence) for name, pair in found.items()}


def _answers(scored: pl.DataFrame) -> pl.DataFrame:
    """Answered rows of known outcome; a column that an earlier candletune did not write is empty."""
    missing = [pl.lit(None).alias(name) for name in _COLUMNS if name not in scored.columns]
    rows = scored.with_columns(missing).select(_COLUMNS)
    return rows.filter(pl.col("shadow_action").is_not_null() & pl.col("forward_return").is_not_null())


def _judged(pair: Paired, adjusted: float | None, error: float) -> Paired:
    if adjusted is None or pair.gain.value is None:
        return pair
    shown: Finding = "better" if pair.gain.value > 0 else "worse"
    return replace(pair, adjusted=adjusted, finding=shown if adjusted <= error else "no difference shown")


def _pair(rows: pl.DataFrame, others: pl.DataFrame, move: float, horizon: timedelta, confidence: float) -> Paired:
    both = rows.join(others, on=_KEYS, how="inner", suffix="_other").sort(_KEYS)
    if both.is_empty():
        return Paired(problem="no decision time in common")
    if both.select(((pl.col("forward_return") - pl.col("forward_return_other")).abs() > _LEAST).any()).item():
        return Paired(rows=len(both), problem="other outcomes at the same times: another market or horizon")
    times = both["timestamp"].unique().sort()
    elapsed = ((times - times[0]) / timedelta(days=1)).to_numpy()
    grid = grid_of(elapsed, _overlap(elapsed, horizon))
    left, right = (_calls(both, f"shadow_action{ending}", move) for ending in ("", "_other"))
    reach = one_look((1 - confidence) / 2)
    gain, score = difference(left, right, grid), estimate(_log_score(both), grid)
    return Paired(
        rows=len(both),
        gain=_NOTHING if gain is None else gain.within(reach, most=1.0),
        log_score=_NOTHING if score is None else score.within(reach),
        p_value=_both_tails(left, right, lead_p_value(left, right, grid), lead_p_value(right, left, grid)),
        finding="no difference shown" if gain is not None else "not comparable",
        problem="" if gain is not None else "one of them makes no BUY or SELL call",
    )


def _both_tails(left: Ratio, right: Ratio, above: float | None, below: float | None) -> float | None:
    if above is None or below is None:
        return None
    if np.array_equal(left.hits, right.hits) and np.array_equal(left.counts, right.counts):
        return 1.0  # the same calls: no gain and no error, of which nothing follows
    return min(1.0, 2 * min(above, below))


def _overlap(elapsed: Floats, horizon: timedelta) -> int:
    """Later decision times whose windows share candles with one's."""
    if len(elapsed) < 2:
        return 0
    step = float(np.median(np.diff(elapsed)))
    return max(0, int(np.ceil(horizon / timedelta(days=1) / step - 1e-9)) - 1)


def _calls(rows: pl.DataFrame, column: str, move: float) -> Ratio:
    """Right BUY/SELL calls over all of them, by decision time."""
    action = pl.col(column)
    acts = action != "HOLD"
    right = acts & correct(action, pl.col("forward_return"), move)
    return _by_time(rows, right, acts)


def _log_score(rows: pl.DataFrame) -> Ratio:
    gained = _log_chance("") - _log_chance("_other")
    return _by_time(rows, gained.fill_null(0.0), gained.is_not_null())


def _log_chance(ending: str) -> pl.Expr:
    """Log probability that a side gave to the outcome's class."""
    chances = (pl.col(f"shadow_p_{name.lower()}{ending}").cast(pl.Float64) for name in DECISIONS)
    happened = (
        pl.when(pl.col("outcome") == name).then(chance) for name, chance in zip(DECISIONS, chances, strict=True)
    )
    return pl.coalesce(happened).clip(lower_bound=_LEAST).log()


def _by_time(rows: pl.DataFrame, hits: pl.Expr, counts: pl.Expr) -> Ratio:
    sums = rows.group_by("timestamp", maintain_order=True).agg(
        hits.cast(pl.Float64).sum().alias("hits"), counts.cast(pl.Float64).sum().alias("counts")
    )
    return Ratio(sums["hits"].to_numpy(), sums["counts"].to_numpy())
