"""A journal that several trainings answered in turn, a period each: figures over all of it, and of each period.

A training's luck with its period is in every row of it. So where other verdicts take equal stretches of a month for
independent (`bounds.month_error`), here the periods are taken, or as many together as make up a month.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts.metrics import BaselineMetrics, Comparison, Interval, SideMetrics
from candletune.config import Config
from candletune.evaluation.baseline_scores import comparable_rows
from candletune.evaluation.baselines import Ints
from candletune.evaluation.bounds import MONTH
from candletune.evaluation.budget import Level
from candletune.evaluation.compare import compare, compare_times
from candletune.evaluation.leads import compare_baselines
from candletune.evaluation.metrics import side_metrics
from candletune.evaluation.times import times_of
from candletune.journal import SIDES

PERIOD: Final = "period"
"""Column: the number of a row's period, from 0 on."""
_SHORTEST: Final = MONTH - 2
"""Days; February counts as a month."""


def compare_periods(
    scored: pl.DataFrame, starts: Sequence[datetime], config: Config, level: Level | None = None
) -> Comparison:
    """The paired comparison over all periods, whose intervals take the periods for independent, not the months.

    Args:
        scored: see `outcomes.score_rows`, at least one row.
        starts: when each period begins, and when the last one ends.
        config: limits and horizon.
        level: what a bound may spend of the error budget.
    """
    whole = compare(scored, config, level)
    times = times_of(scored, config.horizon, config.evaluate)
    if not len(times):
        return whole
    stamps = np.array([stamp.timestamp() for stamp in times.stamps])
    grid = replace(times.grid, stretch=stretches(stamps, [start.timestamp() for start in starts]))
    return compare_times(
        replace(times, grid=grid),
        config.evaluate,
        level,
        agreement=whole.agreement,
        coverage=whole.coverage,
    )


def stretches(stamps: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Which independent stretch each decision time belongs to, (times,), counted up from 0.

    Args:
        stamps: seconds, ascending, (times,).
        edges: seconds; each period's begin, and the last one's end.
    """
    kept = [edges[0]]
    for edge in edges[1:-1]:
        if edge - kept[-1] >= _SHORTEST * 86_400:
            kept.append(edge)
    if len(kept) > 1 and edges[-1] - kept[-1] < _SHORTEST * 86_400:
        kept.pop()
    places = np.searchsorted(kept, stamps, side="right")
    found: NDArray[np.int64] = np.unique(places, return_inverse=True)[1].astype(np.int64)
    return found


def pooled_baselines(
    scored: pl.DataFrame, decide: Callable[[int, pl.DataFrame], dict[str, Ints]], config: Config, whole: Comparison
) -> dict[str, BaselineMetrics]:
    """Every baseline over all periods, fitted anew for each on what the candidate of that period was trained on.

    Args:
        scored: see `outcomes.score_rows`, with `PERIOD`, in time order.
        decide: period and its rows to each baseline's decisions on them.
        config: limits and seed.
        whole: of the two models on these rows.
    """
    rows = comparable_rows(config, scored)
    if rows.is_empty():
        return {}
    parts = {number: part for (number,), part in rows.group_by(PERIOD, maintain_order=True)}
    decided = [decide(int(number), part) for number, part in parts.items()]
    names = [name for name in decided[0] if all(name in each for each in decided)]
    actions = {name: np.concatenate([each[name] for each in decided]) for name in names}
    return compare_baselines(rows, actions, config.evaluate, block=whole.block, seed=config.seed, overlap=whole.overlap)


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """One period's.

    Attributes:
        rows, known: of the journal; those with a known outcome.
        sides: by side.
        gain: BUY/SELL accuracy, candidate minus incumbent.
    """

    rows: int
    known: int
    sides: dict[str, SideMetrics]
    gain: Interval


def figures_by_period(scored: pl.DataFrame, config: Config) -> dict[int, PeriodFigures]:
    """Each period by itself; one without rows is left out."""
    limits = config.evaluate
    found = {}
    for (number,), part in scored.group_by(PERIOD, maintain_order=True):
        found[int(number)] = PeriodFigures(
            rows=len(part),
            known=len(part) - part["forward_return"].null_count(),
            sides={side: side_metrics(part, side, move=limits.move, fee=limits.fee) for side in SIDES},
            gain=compare(part, config).accuracy_signals,
        )
    return found
