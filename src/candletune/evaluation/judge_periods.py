"""All periods' rows become metrics and one verdict, by the rule and the ledger of every other one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from candletune.artifacts import JudgedModel, Metrics, TrySpent
from candletune.artifacts.metrics import LinesLeftOut, RowsRemarked
from candletune.config import Config
from candletune.evaluation.across_periods import compare_periods, pooled_baselines
from candletune.evaluation.baselines import Ints
from candletune.evaluation.grounding import grounding
from candletune.evaluation.judge import Judgement, verdict_of
from candletune.evaluation.measure import complete, measure
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.evaluation.tries import attempt_of, level_of, spend
from candletune.journal import Role

Decide = Callable[[int, pl.DataFrame], dict[str, Ints]]
_NOTHING_LEFT_OUT: Final = LinesLeftOut(torn=0, broken=0, duplicates=0)
_NOTHING_REMARKED: Final = RowsRemarked(out_of_order=0, late=0, moved=0)


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a verdict over several periods is asked of.

    Attributes:
        rows: journal rows of all periods in time order, with `across_periods.PERIOD`.
        starts: when each period begins, and when the last one ends.
        models: what all candidates are called together, and all incumbents.
        decide: what baselines do, see `across_periods.pooled_baselines`; None: none are fitted.
        notes: what must be said beside the numbers.
        run: the folder of the verdict.
    """

    rows: pl.DataFrame
    starts: Sequence[datetime]
    models: Mapping[Role, JudgedModel]
    decide: Decide | None
    notes: tuple[str, ...]
    run: Path


def judge_periods(pooled: Pooled, config: Config) -> Judgement:
    """Score the rows, measure, and decide.

    The verdict bears no time, so that the same periods give the same bytes; the ledger has it.

    Raises:
        InputError: candles are missing, or the ledger cannot be written.
    """
    scored = score_rows(join_outcomes(pooled.rows, config), config.evaluate.move)
    models = dict(pooled.models)
    spent = _timeless(spend(attempt_of(scored, models, config, source="replay", run=pooled.run), config))
    metrics = _measured(pooled, scored, config, spent)
    verdict = verdict_of(scored, metrics, models, config, spent)
    return Judgement(scored, metrics, verdict.model_copy(update={"notes": (*pooled.notes, *verdict.notes)}))


def _timeless(spent: TrySpent | None) -> TrySpent | None:
    """The same without the time of a registration, which the ledger has."""
    if spent is None or spent.registered is None:
        return spent
    return spent.model_copy(update={"registered": "in the ledger"})


def _measured(pooled: Pooled, scored: pl.DataFrame, config: Config, spent: TrySpent | None) -> Metrics:
    level = level_of(spent, config)
    metrics = measure(scored, config, _NOTHING_LEFT_OUT, _NOTHING_REMARKED, level)
    comparison = compare_periods(scored, pooled.starts, config, level)
    baselines = {} if pooled.decide is None else pooled_baselines(scored, pooled.decide, config, comparison)
    return complete(
        metrics.model_copy(update={"comparison": comparison}),
        grounding=grounding(config, scored),
        baselines=baselines,
        reviews=None,
    )
