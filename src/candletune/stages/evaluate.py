"""The `evaluate` stage: a journal and the candles that followed become metrics, intervals, baselines and a verdict.

With `evaluate.journal` it judges that journal, a shadow test's, and writes beside the replay's evaluation, which stays.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from candletune.artifacts import EvaluateSummary, Metrics, Verdict
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.judge import Judgement, judge, keep_verdict
from candletune.evaluation.source import evaluation_files
from candletune.evaluation.stamps import warn_if_nothing_is_known
from candletune.evaluation.tables import show_evaluation
from candletune.files import atomic_path
from candletune.market.candles import find_candle_file
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def evaluate(config: Config, run: RunFolder, reporter: Reporter) -> EvaluateSummary:
    """The stage's work; returns the summary."""
    judgement = judge(config, run, reporter)
    warn_if_nothing_is_known(judgement.scored, config, reporter)
    return keep(judgement, config, run)


def keep(judgement: Judgement, config: Config, run: RunFolder) -> EvaluateSummary:
    """Write rows, metrics and verdict; returns the summary."""
    files, verdict = evaluation_files(config, run), judgement.verdict
    with atomic_path(files.scored) as path:
        judgement.scored.write_parquet(path)
    judgement.metrics.write(files.metrics)
    keep_verdict(verdict, config, run)
    verdict.write(files.verdict)
    headline = f"{verdict.verdict}: {verdict.reason}"
    return EvaluateSummary(headline=headline, verdict=verdict.verdict, reason=verdict.reason, rows=verdict.rows)


def show(config: Config, run: RunFolder, reporter: Reporter) -> None:
    """The tables on screen, from the files."""
    files = evaluation_files(config, run)
    show_evaluation(Verdict.read(files.verdict), Metrics.read(files.metrics), reporter)


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    pairs = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    journal = evaluation_files(config, run).journal
    optional = {"untuned base": run.untuned, "reviews": run.reviews}
    required = {"journal": journal, **pairs}
    # A shadow test's journal can be judged where nothing was trained.
    (required if config.evaluate.journal is None else optional)["dataset"] = run.dataset
    return required | {name: path for name, path in optional.items() if path.exists()}


def _variant(config: Config) -> Stage:
    return STAGE if config.evaluate.journal is None else SHADOW


STAGE = Stage(
    name="evaluate",
    title="Evaluate and decide",
    tables=("evaluate", "labels", "data", "live", "prompt", "review"),
    inputs=_inputs,
    outputs=(
        "evaluation/metrics.json",
        "evaluation/verdict.json",
        "evaluation/scored.parquet",
    ),
    work=evaluate,
    summary=EvaluateSummary,
    show=show,
    variant=_variant,
)
SHADOW = replace(
    STAGE,
    name="evaluate --journal",
    outputs=(
        "evaluation/shadow_metrics.json",
        "evaluation/shadow_verdict.json",
        "evaluation/shadow_scored.parquet",
    ),
)
