"""The journal an evaluation judges: read, narrowed, and refused where its numbers could mislead."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from candletune.artifacts import JudgedModel, Metrics, ReplaySummary, Verdict
from candletune.artifacts.metrics import LinesLeftOut, RowsRemarked
from candletune.artifacts.verdict import Source
from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import BARE_BASE
from candletune.decide.names import name_of
from candletune.errors import InputError
from candletune.evaluation.beaten import check_names
from candletune.evaluation.stamps import on_the_grid, say_moved
from candletune.journal import SIDES, Problems, Role, read_frame
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class EvaluationFiles:
    """Where an evaluation is written: that of the replay, or that of a shadow test's journal beside it."""

    source: Source
    journal: Path
    metrics: Path
    verdict: Path
    scored: Path
    report: Path


def evaluation_files(config: Config, run: RunFolder) -> EvaluationFiles:
    """The replay's, unless `evaluate.journal` names another journal to judge."""
    if config.evaluate.journal is None:
        return EvaluationFiles("replay", run.journal, run.metrics, run.verdict, run.scored, run.report)
    return EvaluationFiles(
        "shadow",
        config.evaluate.journal,
        run.shadow_metrics,
        run.shadow_verdict,
        run.shadow_scored,
        run.shadow_report,
    )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as its files have it; `scored` are the journal's rows with outcomes, at least one."""

    verdict: Verdict
    metrics: Metrics
    scored: pl.DataFrame


def read_evaluation(files: EvaluationFiles) -> Evaluation:
    """Read it back.

    Raises:
        InputError: it has not run, or a file is broken.
    """
    verdict, metrics = Verdict.read(files.verdict), Metrics.read(files.metrics)
    if not files.scored.exists():
        raise InputError(f"{files.scored}: no such file; run `candletune evaluate --force` first")
    scored = pl.read_parquet(files.scored)
    if scored.is_empty():
        raise InputError(f"{files.scored}: holds no rows; run `candletune replay` and `candletune evaluate` again")
    return Evaluation(verdict, metrics, scored)


def open_journal(config: Config, run: RunFolder, reporter: Reporter) -> tuple[pl.DataFrame, LinesLeftOut, RowsRemarked]:
    """The journal's rows in time order and stamped at candles' closes, what was left out, and what is remarkable.

    Raises:
        InputError: no rows, or several pairs of models.
        UsageError: `evaluate.must_beat` names no baseline.
    """
    check_names(config.evaluate)
    path = evaluation_files(config, run).journal
    problems = Problems()
    rows = read_frame(path, problems=problems)
    if problems:
        reporter.warn(
            f"{path}: left out {problems.torn} torn and {problems.broken} broken lines and {problems.duplicates} "
            f"duplicates; first: {problems.notes[0]}"
        )
    unordered = int((rows["timestamp"].diff() < timedelta(0)).sum())
    rows = rows.sort("timestamp", "ticker")
    if config.evaluate.start is not None:
        rows = rows.filter(pl.col("timestamp") >= config.evaluate.start)
    if rows.is_empty():
        raise InputError(f"{path}: holds no rows to judge; run `candletune replay`, or set evaluate.start earlier")
    _one_pair_of_models(rows, path)
    left_out = LinesLeftOut(torn=problems.torn, broken=problems.broken, duplicates=problems.duplicates)
    snapped, moved = on_the_grid(rows, config)
    say_moved(rows, snapped, moved, config, reporter)
    remarked = RowsRemarked(out_of_order=unordered, late=int(snapped["late"].sum()), moved=moved)
    return snapped, left_out, remarked


def models_of(rows: pl.DataFrame, config: Config, run: RunFolder) -> dict[Role, JudgedModel]:
    """Candidate and incumbent with name and adapter hash: from the replay, or from a shadow journal's rows."""
    if config.evaluate.journal is None:
        replayed = run.summary(ReplaySummary)
        return {Role.CANDIDATE: replayed.candidate, Role.INCUMBENT: replayed.incumbent}
    models = {}
    for role in Role:
        digest = adapter_of(rows, role)
        models[role] = JudgedModel(name=name_of(config, run, digest), adapter_sha256=digest)
    return models


def adapter_of(rows: pl.DataFrame, role: Role) -> str | None:
    """The hash of the adapter that answered; None for the bare base, and where nobody did."""
    hashes = rows.filter(pl.col(f"{role.side}_status") == "ok")[f"{role.side}_adapter"].drop_nulls()
    return hashes[0] if len(hashes) else None


def latest_models(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows since the last change of a model, template or base.

    Args:
        rows: of a journal, in time order, at least one.
    """
    adapters = [
        pl.when(pl.col(f"{side}_status") == "ok")
        .then(pl.col(f"{side}_adapter").fill_null(BARE_BASE))
        .forward_fill()
        .backward_fill()
        for side in SIDES
    ]
    models = rows.select(pl.struct("template_sha256", "base_sha256", *adapters).alias("models"))["models"]
    return rows.filter(models.rle_id() == models.rle_id()[-1])


def _one_pair_of_models(rows: pl.DataFrame, path: Path) -> None:
    """One template and base; and a side's answers are all of one adapter, or all of the bare base."""
    seen = {name: rows[name].unique() for name in ("template_sha256", "base_sha256")}
    for side in SIDES:
        seen[f"{side}_adapter"] = rows.filter(pl.col(f"{side}_status") == "ok")[f"{side}_adapter"].unique()
    for name, values in seen.items():
        if len(values) > 1:
            since = latest_models(rows)["timestamp"][0]
            raise InputError(
                f"{path}: {len(values)} different values of {name}; evaluate one pair of models at a time, for example "
                f"the last one with --set evaluate.start={since:%Y-%m-%dT%H:%M}"
            )
