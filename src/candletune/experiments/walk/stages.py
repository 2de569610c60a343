"""The stages behind the folds: one journal, one verdict and one page over all periods."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from candletune.artifacts import EvaluateSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.unseen import candle_files
from candletune.experiments.walk.folds import Fold
from candletune.experiments.walk.verdict import judge_folds
from candletune.files import atomic_path, write_pieces
from candletune.runs import RunFolder
from candletune.stages.evaluate import STAGE as EVALUATE
from candletune.stages.evaluate import keep
from candletune.stages.report import STAGE as REPORT
from candletune.stages.runner import Stage


def evaluate(folds: Sequence[Fold], config: Config, run: RunFolder, reporter: Reporter) -> EvaluateSummary:
    """The stage's work: the folds' journals to one journal, its metrics and its verdict."""
    with atomic_path(run.journal) as path:
        write_pieces(path, (fold.run.journal.read_bytes() for fold in folds))
    return keep(judge_folds(folds, config, run.path), config, run)


def evaluate_stage(folds: Sequence[Fold]) -> Stage:
    """The verdict over all periods."""

    def inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
        names = {
            name: path
            for fold in folds
            for name, path in (
                (f"{fold.period.name} journal", fold.run.journal),
                (f"{fold.period.name} dataset", fold.run.dataset),
                (f"{fold.period.name} untuned base", fold.run.untuned),
            )
            if path != fold.run.untuned or path.exists()
        }
        return {**names, **candle_files(config)}

    return replace(
        EVALUATE,
        title="Judge all periods",
        tables=("walk", "evaluate", "labels", "data", "live", "prompt", "train"),
        inputs=inputs,
        outputs=("replay/ab_test_log.jsonl", *EVALUATE.outputs),
        work=partial(evaluate, folds),
        variant=None,
    )


def report_stage() -> Stage:
    """The page about all periods."""

    def inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
        return {**REPORT.inputs(config, run), "periods": run.walk_periods}

    return replace(REPORT, inputs=inputs, variant=None, tables=(*REPORT.tables, "walk"))
