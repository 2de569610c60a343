"""Gathers a run's files into what the page shows. A section whose file is missing says so; nothing is faked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from candletune import __version__
from candletune.artifacts import Certificate
from candletune.config import Config
from candletune.decide import BARE_BASE
from candletune.errors import InputError
from candletune.evaluation import over_time
from candletune.evaluation.review.tally import reviewed
from candletune.files import read_json
from candletune.journal import parse_time
from candletune.report import figures, sections
from candletune.report.figures import NAMES
from candletune.report.text import moment
from candletune.report.verdict import verdict_view
from candletune.runs import RunFolder

Shown = dict[str, Any]


def tell(config: Config, run: RunFolder) -> Shown:
    """Everything `report.html.j2` needs.

    Raises:
        InputError: the evaluation has not run, or a file is broken.
    """
    verdict = verdict_view(read_json(run.verdict))
    metrics = read_json(run.metrics)
    scored = _scored(run.scored)
    horizon = config.horizon
    lags = over_time.overlap(scored, horizon)
    times = over_time.signals_by_time(scored)
    intervals = {
        side: sections.side_bounds(metrics, side)
        or over_time.side_interval(times, side, lags, config.evaluate.confidence)
        for side in NAMES
    }
    names = {
        side: f"{name}: {verdict[name.lower()].get('name') or BARE_BASE}"
        for side, name in NAMES.items()
    }  # fmt: skip
    judged = {side: verdict[name.lower()].get("adapter_sha256") for side, name in NAMES.items()}
    review = reviewed(config, run, judged)
    methods = sections.methods(metrics, {side: name for side, name in NAMES.items()})
    told: Shown = {
        "title": f"{verdict['sentence']} candletune report",
        "run": run.path.name,
        "version": __version__,
        "verdict": verdict,
        "metrics": metrics,
        "config": config,
        "names": names,
        "roles": NAMES,
        "lead": sections.sentence(metrics, scored, config.evaluate.confidence),
        "warnings": [*_warnings(config, verdict, metrics, scored), *_later_reviews(review, metrics)],
        "tiles": sections.tiles(metrics, intervals),
        "intervals": intervals,
        "confusions": {side: sections.confusion(metrics.get(side, {})) for side in NAMES},
        "crossed": sections.crossed(scored),
        "methods": methods,
        "method_sentence": sections.method_sentence(methods),
        "groups": sections.groups(metrics),
        "failures": sections.failures(metrics, scored),
        "worst": sections.worst_calls(scored),
        "disagreements": sections.disagreements(scored),
        "grounding": metrics.get("grounding"),
        "control": sections.control_sentence(metrics),
        "review": review,
        "attainable": _optional(run.attainable) if config.simulate.enabled else None,
        "certificate": Certificate.read_if_there(run.certificate),
        "training": _optional(run.train_summary),
        "dataset": _optional(run.dataset_manifest),
        "card": "../dataset/card.html" if run.card.is_file() else None,
        "tickers": sorted(scored["ticker"].unique().to_list()),
    }
    told["figures"] = _figures(config, run, metrics, scored, times, lags, methods)
    return told | _made(run)


def _scored(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise InputError(f"{path}: no such file; run `candletune evaluate --force` first")
    frame = pl.read_parquet(path)
    if frame.is_empty():
        raise InputError(f"{path}: holds no rows; run `candletune replay` and `candletune evaluate` again")
    return frame


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _figures(
    config: Config,
    run: RunFolder,
    metrics: Mapping[str, Any],
    scored: pl.DataFrame,
    times: pl.DataFrame,
    lags: int,
    methods: list[Shown],
) -> dict[str, figures.Figure]:
    """Figures by the id of their place on the page; those without data are absent."""
    found: dict[str, figures.Figure | None] = {}
    run_so_far = over_time.running(times, lags, config.evaluate.confidence)
    if run_so_far is not None:
        found["running"] = figures.running_accuracy(run_so_far)
        found["difference"] = figures.running_difference(run_so_far, config.evaluate.min_gain)
    found["equity"] = figures.equity(over_time.equity_curves(scored, config.evaluate.fee))
    found["calibration"] = figures.calibration(metrics)
    found["shares"] = figures.shares(metrics)
    if metrics.get("months"):
        found["months"] = figures.monthly(metrics["months"], over_time.agreement_by_month(scored))
    if any(row["accuracy_signals"] is not None for row in methods):
        found["methods"] = figures.compared(methods)
    for ticker in scored["ticker"].unique().sort():
        found[f"price-{ticker}"] = figures.prices(scored, ticker)
    found["training"] = figures.training(_rows(run.train_metrics))
    return {name: figure for name, figure in found.items() if figure is not None}


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path}: not JSON lines ({error}); run `candletune train --force` again") from None


def _warnings(
    config: Config, verdict: Mapping[str, Any], metrics: Mapping[str, Any], scored: pl.DataFrame
) -> list[str]:
    """What a reader must know before believing any number below."""
    found = []
    if verdict["forced"]:
        found.append("Forced: part of this replay was seen in training, so its numbers prove nothing.")
    if config.simulate.enabled:
        found.append(
            f"These candles are simulated (signal {config.simulate.signal:g}); the numbers test the pipeline and say "
            "nothing about a real market."
        )
    if config.labels.shuffle:
        found.append("The labels were shuffled on purpose: there is nothing to learn here.")
    if config.dataset.split == "random":
        found.append("The training split is random, so eval numbers of the training leak; the replay's do not.")
    if verdict["incumbent"] and not verdict["incumbent"].get("adapter_sha256"):
        found.append("No incumbent adapter is configured, so the bare base model stands in for it.")
    problems = metrics.get("problems") or {}
    if any(problems.values()):
        counts = ", ".join(f"{count} {name}" for name, count in problems.items() if count)
        found.append(f"Journal rows left out: {counts}.")
    pending = int(scored["forward_return"].is_null().sum())
    if pending:
        found.append(f"{pending} of {len(scored):,} rows have no outcome yet and count nowhere.")
    return found


def _later_reviews(review: Shown | None, metrics: Mapping[str, Any]) -> list[str]:
    """Said when the verdict above was reached without what reviewers have said by now."""
    if review is None or review == metrics.get("reviews"):
        return []
    return ["Reviews changed after the evaluation; run candletune evaluate again so that the verdict sees them."]


def _made(run: RunFolder) -> Shown:
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
