"""Gathers a run's files into what the report shows. A section whose file is missing says so; nothing is faked."""

from candletune.artifacts import Certificate, DatasetManifest, Metrics, ReviewSummary
from candletune.config import Config
from candletune.evaluation.review.tally import reviewed
from candletune.evaluation.source import Evaluation, evaluation_files, read_evaluation
from candletune.report import periods, sections
from candletune.report.charts import charts
from candletune.report.methods import method_sentence, methods_of
from candletune.report.provenance import attainable_scores, card_of, provenance
from candletune.report.trading import trading_view
from candletune.report.verdict import verdict_view
from candletune.report.view import ReportContent
from candletune.runs import RunFolder


def report_content(config: Config, run: RunFolder) -> ReportContent:
    """What the run's files say.

    Raises:
        InputError: the evaluation has not run, or a file is broken.
    """
    evaluated = read_evaluation(evaluation_files(config, run))
    verdict, metrics, scored = evaluated.verdict, evaluated.metrics, evaluated.scored
    view = verdict_view(verdict, metrics)
    judged = {"shadow": verdict.candidate, "active": verdict.incumbent}
    review = reviewed(config, run, {side: model.adapter_sha256 for side, model in judged.items()})
    methods = methods_of(metrics)
    dataset = DatasetManifest.read_if_there(run.dataset_manifest)
    card = card_of(dataset, config, run)
    return ReportContent(
        title=f"{view.sentence} candletune report",
        run=run.path.name,
        verdict=view,
        metrics=metrics,
        config=config,
        names=sections.names({side: model.name for side, model in judged.items()}),
        lead=sections.lead_sentence(metrics, scored, config.evaluate.confidence),
        warnings=[*_warnings(config, evaluated), *_later_reviews(review, metrics)],
        tiles=sections.tiles(metrics, config),
        confusions={side: sections.confusion(metrics.side(side)) for side in judged},
        crossed=sections.crossed(scored),
        methods=methods,
        method_sentence=method_sentence(methods),
        groups=sections.groups(metrics),
        failures=sections.failures(metrics, scored),
        worst=sections.worst_calls(scored),
        disagreements=sections.disagreements(scored),
        control=sections.control_sentence(metrics),
        review=review,
        attainable=attainable_scores(run) if config.simulate.enabled else None,
        certificate=Certificate.read_if_there(run.certificate),
        dataset=dataset,
        card=card,
        trading=trading_view(config, metrics, scored),
        figures=charts(config, run, evaluated, methods) | (card.figures if card else {}),
        made=provenance(run),
        periods=periods.period_rows(run),
    )


def _warnings(config: Config, evaluated: Evaluation) -> list[str]:
    """What a reader must know before believing any number below."""
    verdict, scored = evaluated.verdict, evaluated.scored
    warnings = []
    if verdict.forced:
        warnings.append("Forced: part of this replay was seen in training, so its numbers prove nothing.")
    if verdict.source == "shadow":
        warnings.append(f"This page is about the journal {config.evaluate.journal}, not about the replay.")
    if config.simulate.enabled:
        warnings.append(
            f"These candles are simulated (signal {config.simulate.signal:g}); the numbers test the pipeline and say "
            "nothing about a real market."
        )
    if config.labels.shuffle:
        warnings.append("The labels were shuffled on purpose: there is nothing to learn here.")
    if config.dataset.split == "random":
        warnings.append("The training split is random, so eval numbers of the training leak; the replay's do not.")
    if verdict.incumbent.adapter_sha256 is None:
        warnings.append("No incumbent adapter is configured, so the bare base model stands in for it.")
    left_out = evaluated.metrics.problems.model_dump()
    if any(left_out.values()):
        counts = ", ".join(f"{count} {name}" for name, count in left_out.items() if count)
        warnings.append(f"Journal rows left out: {counts}.")
    pending = int(scored["forward_return"].is_null().sum())
    if pending:
        warnings.append(f"{pending} of {len(scored):,} rows have no outcome yet and count nowhere.")
    return warnings


def _later_reviews(review: ReviewSummary | None, metrics: Metrics) -> list[str]:
    """Said when the verdict above was reached without what reviewers have said by now."""
    if review is None or review == metrics.reviews:
        return []
    return ["Reviews changed after the evaluation; run candletune evaluate again so that the verdict sees them."]
