"""From the folds' journals to one verdict."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from candletune.artifacts import JudgedModel
from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation.across_periods import PERIOD
from candletune.evaluation.baseline_scores import task_of, untuned_actions
from candletune.evaluation.baselines import Ints, baseline_actions
from candletune.evaluation.beaten import UNTUNED, check_names
from candletune.evaluation.judge import Judgement
from candletune.evaluation.judge_periods import Decide, Pooled, judge_periods
from candletune.experiments.walk.folds import Fold
from candletune.experiments.walk.models import Models, check_one_incumbent, together
from candletune.journal import Role, read_frame


def judge_folds(folds: Sequence[Fold], config: Config, walk: Path) -> Judgement:
    """The verdict over all periods, each replayed by its own fold.

    Args:
        folds: in order, all of them replayed.
        config: the walk's, with `data.folder` at the whole history.
        walk: the walk's folder.

    Raises:
        InputError: a journal is broken, or the folds do not belong together.
        UsageError: `evaluate.must_beat` names no baseline.
    """
    check_names(config.evaluate)
    models = [models_asked(fold) for fold in folds]
    check_one_incumbent(models, config.walk.incumbent)
    rows = pooled_rows(folds)
    pooled = Pooled(
        rows=rows,
        starts=[*(fold.period.start for fold in folds), folds[-1].period.end],
        models=together(models),
        decide=_decide(folds, config) if config.evaluate.baselines else None,
        notes=_notes(folds, config, together(models)[Role.INCUMBENT]),
        run=walk,
    )
    return judge_periods(pooled, config)


def models_asked(fold: Fold) -> Models:
    """Who answered in a fold's replay.

    Raises:
        InputError: it has not been replayed.
    """
    replayed = fold.replayed()
    if replayed is None:
        raise InputError(f"{fold.run.path}: not replayed yet; run `candletune walk` again")
    return {Role.CANDIDATE: replayed.candidate, Role.INCUMBENT: replayed.incumbent}


def pooled_rows(folds: Sequence[Fold]) -> pl.DataFrame:
    """The journals' rows in time order, with the number of their period.

    Raises:
        InputError: a journal is broken or empty, or holds another period's rows, another base's or another template's.
    """
    frames = []
    for fold in folds:
        frame = read_frame(fold.run.journal).sort("timestamp", "ticker")
        period = fold.period
        inside = frame["timestamp"].is_between(period.start, period.end, closed="left")
        if frame.is_empty() or not inside.all():
            raise InputError(
                f"{fold.run.journal}: empty, or rows of another period; remove {fold.run.path} and walk again"
            )
        frames.append(frame.with_columns(pl.lit(period.number, pl.Int64).alias(PERIOD)))
    rows = pl.concat(frames)
    for name in ("template_sha256", "base_sha256"):
        if rows[name].n_unique() > 1:
            raise InputError(f"walk: the folds' journals have different values of {name}; walk again")
    return rows


def _decide(folds: Sequence[Fold], config: Config) -> Decide:
    def decide(number: int, rows: pl.DataFrame) -> dict[str, Ints]:
        fold = folds[number]
        actions = baseline_actions(task_of(config, fold.run, rows))
        if fold.run.untuned.exists():
            actions[UNTUNED] = untuned_actions(rows, pl.read_parquet(fold.run.untuned))
        return actions

    return decide


def _notes(folds: Sequence[Fold], config: Config, incumbent: JudgedModel) -> tuple[str, ...]:
    what = "Gradient boosting stands in for the language model. " if config.walk.model == "boosting" else ""
    seen = "all candles before it" if config.walk.window == "growing" else f"the {config.walk.window} before it"
    rival = {
        "fixed": f"the same incumbent in every period ({incumbent.name})",
        "first": "the first period's training, which is never renewed",
        "previous": "the training of the period before (in the first period the configured incumbent)",
    }[config.walk.incumbent]
    return (
        f"{what}{len(folds)} trainings answered in turn, each on {seen}, from {folds[0].period.start:%Y-%m-%d} to "
        f"{folds[-1].period.end:%Y-%m-%d}; they are compared with {rival}.",
        "What is judged is training again and again with these settings. It promotes no single adapter: the next one "
        "has to pass a shadow test of its own.",
    )
