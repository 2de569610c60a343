"""What is measured beside the two models: whether reasons are true, baselines, and what people said."""

from collections.abc import Mapping

import polars as pl

from candletune.artifacts import JudgedModel, Metrics, ReplaySummary, ReviewSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.baseline_scores import measure_baselines
from candletune.evaluation.grounding import grounding
from candletune.evaluation.measure import complete
from candletune.evaluation.review.tally import reviewed
from candletune.journal import Role
from candletune.runs import RunFolder

Models = Mapping[Role, JudgedModel]


def with_the_rest(
    metrics: Metrics, scored: pl.DataFrame, models: Models, config: Config, run: RunFolder, reporter: Reporter
) -> Metrics:
    """The same metrics with grounding, baselines (where the run has a dataset) and reviews."""
    fit = config.evaluate.baselines and run.dataset_manifest.is_file()
    whole = complete(
        metrics,
        grounding=grounding(config, scored),
        baselines=measure_baselines(config, run, scored, metrics.comparison) if fit else {},
        reviews=_reviews(config, run, models, reporter),
    )
    control = run.summary(ReplaySummary).control if config.evaluate.journal is None else None
    return whole.model_copy(update={"control": control})


def _reviews(config: Config, run: RunFolder, models: Models, reporter: Reporter) -> ReviewSummary | None:
    """What reviewers said of the judged models' reasons; None when nobody did."""
    summary = reviewed(config, run, {role.side: model.adapter_sha256 for role, model in models.items()})
    if summary is None and run.reviews.exists():
        reporter.warn(
            f"{run.reviews}: holds no finished review of these models' reasons in the journal, so none counts; "
            "finish one with `candletune review`"
        )
    return summary
