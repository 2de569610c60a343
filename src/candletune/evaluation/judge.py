"""A journal and the candles that followed become metrics and a verdict."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from candletune.artifacts import JudgedModel, Metrics, ReviewSummary, Verdict
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.baseline_scores import measure_baselines
from candletune.evaluation.grounding import grounding
from candletune.evaluation.measure import complete, measure, notes_of
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.evaluation.review.tally import reviewed
from candletune.evaluation.rule import criteria_of, decide
from candletune.evaluation.source import evaluation_files, models_of, open_journal
from candletune.journal import Role
from candletune.runs import RunFolder

Models = dict[Role, JudgedModel]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an evaluation found.

    Attributes:
        scored: the journal's rows with outcomes, in time order.
    """

    scored: pl.DataFrame
    metrics: Metrics
    verdict: Verdict


def judge(config: Config, run: RunFolder, reporter: Reporter) -> Judgement:
    """Score the journal, measure, and decide.

    Raises:
        InputError: the journal cannot be judged (see `source.open_journal`), or candles are missing.
    """
    rows, left_out, remarked = open_journal(config, run, reporter)
    models = models_of(rows, config, run)
    scored = score_rows(join_outcomes(rows, config), config.evaluate.move)
    del rows
    metrics = measure(scored, config, left_out, remarked)
    fit = config.evaluate.baselines and run.dataset_manifest.is_file()
    metrics = complete(
        metrics,
        grounding=grounding(config, scored),
        baselines=measure_baselines(config, run, scored, metrics.comparison.block) if fit else {},
        reviews=_reviews(config, run, models, reporter),
    )
    criteria = criteria_of(metrics, config.evaluate)
    verdict, reason = decide(criteria, metrics)
    return Judgement(
        scored,
        metrics,
        Verdict(
            verdict=verdict,
            reason=reason,
            rule=config.evaluate.criteria,
            criteria=tuple(criteria),
            candidate=models[Role.CANDIDATE],
            incumbent=models[Role.INCUMBENT],
            forced=bool(scored["forced"].any()),
            rows=len(scored),
            notes=notes_of(metrics, config.evaluate),
            source=evaluation_files(config, run).source,
            decided=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def _reviews(config: Config, run: RunFolder, models: Models, reporter: Reporter) -> ReviewSummary | None:
    """What reviewers said of the judged models' reasons; None when nobody did."""
    summary = reviewed(config, run, {role.side: model.adapter_sha256 for role, model in models.items()})
    if summary is None and run.reviews.exists():
        reporter.warn(
            f"{run.reviews}: holds no finished review of these models' reasons in the journal, so none counts; "
            "finish one with `candletune review`"
        )
    return summary


def keep_verdict(verdict: Verdict, run: RunFolder) -> None:
    """Write the verdict under a name of its own, `<utc>-<candidate>-<incumbent>.json`, so that none is ever lost."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    models = "-".join(_short(model) for model in (verdict.candidate, verdict.incumbent))
    verdict.write(run.verdicts / f"{moment}Z-{models}.json")


def _short(model: JudgedModel) -> str:
    """Eight characters of the adapter's hash; `barebase` without one."""
    return "barebase" if model.adapter_sha256 is None else model.adapter_sha256[:8]
