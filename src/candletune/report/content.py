"""Gathers a run's files into what the report shows. A section whose file is missing says so; nothing is faked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from candletune import __version__
from candletune.artifacts import Certificate, Metrics, Verdict
from candletune.artifacts.metrics import ReviewSummary
from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation import over_time
from candletune.evaluation.review.tally import reviewed
from candletune.evaluation.source import EvaluationFiles, evaluation_files
from candletune.evaluation.times import times_of
from candletune.files import read_json
from candletune.journal import parse_time
from candletune.report import figures, sections
from candletune.report.methods import Method, method_sentence, methods_of
from candletune.report.text import NAMES, moment
from candletune.report.verdict import verdict_view
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation as its files have it."""

    verdict: Verdict
    metrics: Metrics
    scored: pl.DataFrame


def report_content(config: Config, run: RunFolder) -> dict[str, Any]:
    """Everything `report.html.j2` needs, by the names it uses.

    Raises:
        InputError: the evaluation has not run, or a file is broken.
    """
    evaluated = _read(evaluation_files(config, run))
    verdict, metrics, scored = evaluated.verdict, evaluated.metrics, evaluated.scored
    view = verdict_view(verdict)
    judged = {"active": verdict.incumbent, "shadow": verdict.candidate}
    review = reviewed(config, run, {side: model.adapter_sha256 for side, model in judged.items()})
    methods = methods_of(metrics)
    return {
        "title": f"{view.sentence} candletune report",
        "run": run.path.name,
        "version": __version__,
        "verdict": view,
        "metrics": metrics,
        "config": config,
        "names": {side: f"{name}: {judged[side].name}" for side, name in NAMES.items()},
        "roles": NAMES,
        "lead": sections.lead_sentence(metrics, scored, config.evaluate.confidence),
        "warnings": [*_warnings(config, evaluated), *_later_reviews(review, metrics)],
        "tiles": sections.tiles(metrics),
        "confusions": {side: sections.confusion(metrics.side(side)) for side in NAMES},
        "crossed": sections.crossed(scored),
        "methods": methods,
        "method_sentence": method_sentence(methods),
        "groups": sections.groups(metrics),
        "failures": sections.failures(metrics, scored),
        "worst": sections.worst_calls(scored),
        "disagreements": sections.disagreements(scored),
        "control": sections.control_sentence(metrics),
        "review": review,
        "attainable": _optional(run.attainable) if config.simulate.enabled else None,
        "certificate": Certificate.read_if_there(run.certificate),
        "training": _optional(run.train_summary),
        "dataset": _optional(run.dataset_manifest),
        "card": "../dataset/card.html" if run.card.is_file() else None,
        "tickers": sorted(scored["ticker"].unique().to_list()),
        "figures": _figures(config, run, metrics, scored, methods),
        **_made(run),
    }


def _read(files: EvaluationFiles) -> Evaluated:
    verdict, metrics = Verdict.read(files.verdict), Metrics.read(files.metrics)
    if not files.scored.exists():
        raise InputError(f"{files.scored}: no such file; run `candletune evaluate --force` first")
    scored = pl.read_parquet(files.scored)
    if scored.is_empty():
        raise InputError(f"{files.scored}: holds no rows; run `candletune replay` and `candletune evaluate` again")
    return Evaluated(verdict, metrics, scored)


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _figures(
    config: Config, run: RunFolder, metrics: Metrics, scored: pl.DataFrame, methods: list[Method]
) -> dict[str, figures.Figure]:
    """Figures by the id of their place on the page; those without data are absent."""
    drawn: dict[str, figures.Figure | None] = {}
    series = over_time.running(times_of(scored, config.horizon), config.evaluate.confidence)
    if series is not None:
        drawn["running"] = figures.running_accuracy(series)
        drawn["difference"] = figures.running_difference(series, config.evaluate.min_gain)
    drawn["equity"] = figures.equity(over_time.equity_curves(scored, config.evaluate.fee))
    drawn["calibration"] = figures.calibration(metrics)
    drawn["shares"] = figures.shares(metrics)
    if metrics.months:
        drawn["months"] = figures.monthly(metrics.months, over_time.agreement_by_month(scored))
    if any(method.accuracy_signals is not None for method in methods):
        drawn["methods"] = figures.compared(methods)
    for ticker in scored["ticker"].unique().sort():
        drawn[f"price-{ticker}"] = figures.prices(scored, ticker)
    drawn["training"] = figures.training(_rows(run.train_metrics))
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path}: not JSON lines ({error}); run `candletune train --force` again") from None


def _warnings(config: Config, evaluated: Evaluated) -> list[str]:
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


def _made(run: RunFolder) -> dict[str, Any]:
    """Stages, hashes and versions."""
    stages = run.manifest()["stages"]
    versions: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for entry in stages.values():
        versions |= entry["versions"]
        hashes |= entry["inputs"] | entry["outputs"]
    return {
        "stages": [
            {
                "name": name,
                "headline": entry["summary"].get("headline", ""),
                "seconds": entry["seconds"],
                "finished": moment(entry["finished"]),
            }
            for name, entry in stages.items()
        ],
        "versions": dict(sorted(versions.items())),
        "hashes": dict(sorted(hashes.items())),
        "settings": {name: entry["settings"] for name, entry in stages.items()},
        "written": moment(max((parse_time(entry["finished"]) for entry in stages.values()), default=None)),
    }
