"""The `evaluate` stage: a journal and the candles that followed become metrics, intervals, baselines and a verdict."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset import decision_rows, read_examples
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.evaluation.baselines import baseline_actions, baseline_metrics
from candletune.evaluation.compare import compare
from candletune.evaluation.decide import criteria_of, decide
from candletune.evaluation.metrics import by_group, outcome_classes, side_metrics
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.evaluation.replay import JOURNAL
from candletune.journal import SIDES, Problems, read_frame
from candletune.market.candles import find_candle_file
from candletune.runs import RunFolder, Stage, atomic_path, write_json
from candletune.signal.chances import fit_calibration

DISAGREEMENTS = 50
LEAST_CALIBRATED = 200
"""Outcomes below which a calibration would fit noise."""


def evaluate(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary."""
    problems = Problems()
    rows = read_frame(run.file(*JOURNAL), problems=problems)
    if rows.is_empty():
        raise InputError(f"{run.file(*JOURNAL)}: holds no rows; run `candletune replay` first")
    if problems:
        reporter.warn(f"{run.file(*JOURNAL)}: left out {problems.torn} torn, {problems.broken} broken rows")
    _one_pair_of_models(rows, run)
    scored = score_rows(join_outcomes(rows, config), config.evaluate.move).sort("timestamp", "ticker")
    found = measure(scored, config)
    found["problems"] = {"torn": problems.torn, "broken": problems.broken, "duplicates": problems.duplicates}
    if config.evaluate.baselines:
        found["baselines"] = _baselines(config, run, scored)
    criteria = criteria_of(found, config.evaluate)
    verdict, reason = decide(criteria)
    replayed = run.stage_summary("replay")
    record = {
        "version": 1,
        "verdict": verdict,
        "reason": reason,
        "rule": config.evaluate.criteria,
        "criteria": [criterion.record() for criterion in criteria],
        "candidate": replayed["candidate"],
        "incumbent": replayed["incumbent"],
        "forced": bool(scored["forced"].any()),
        "rows": len(scored),
    }
    with atomic_path(run.file("evaluation", "scored.parquet")) as path:
        scored.write_parquet(path)
    write_json(run.file("evaluation", "calibration.json"), _calibrations(scored, config))
    write_json(run.file("evaluation", "metrics.json"), found)
    write_json(run.file("evaluation", "verdict.json"), record)
    _print(record, found, reporter)
    return {"headline": f"{verdict}: {reason}", "verdict": verdict, "reason": reason, "rows": len(scored)}


def measure(scored: pl.DataFrame, config: Config) -> dict[str, Any]:
    """Both sides' metrics and their comparison, from scored rows in time order."""
    limits = config.evaluate
    found: dict[str, Any] = {
        side: side_metrics(scored, side, move=limits.move, fee=limits.fee) for side in ("active", "shadow")
    }
    found["comparison"] = compare(scored, config)
    found["tickers"] = by_group(scored, pl.col("ticker"))
    found["months"] = by_group(scored, pl.col("timestamp").dt.strftime("%Y-%m"))
    regime = pl.col("forward_return").abs() > pl.col("forward_return").abs().median()
    found["regimes"] = by_group(
        scored, pl.when(regime.fill_null(value=False)).then(pl.lit("large moves")).otherwise(pl.lit("small moves"))
    )
    found["reasons"] = {side: _reasons(scored, side) for side in ("active", "shadow")}
    found["disagreements"] = _disagreements(scored)
    return found


def _one_pair_of_models(rows: pl.DataFrame, run: RunFolder) -> None:
    for column in ("active_adapter", "shadow_adapter", "template_sha256", "base_sha256"):
        values = rows[column].drop_nulls().unique()
        if len(values) > 1:
            raise InputError(
                f"{run.file(*JOURNAL)}: {len(values)} different values of {column}; "
                "evaluate one pair of models at a time"
            )


def _calibrations(scored: pl.DataFrame, config: Config) -> dict[str, dict[str, float]]:
    """A temperature for each adapter with enough outcomes, which `signal` applies to its confidence.

    Fitted against the labels' own threshold, since that is what the probabilities are of.
    """
    fitted = {}
    for side in SIDES:
        known = scored.filter(
            pl.col("forward_return").is_not_null()
            & pl.col(f"{side}_p_buy").is_not_null()
            & pl.col(f"{side}_adapter").is_not_null()
        )
        if len(known) < LEAST_CALIBRATED:
            continue
        chances = known.select(f"{side}_p_{name.lower()}" for name in DECISIONS).to_numpy()
        found = fit_calibration(chances, outcome_classes(known["forward_return"], config.labels.threshold))
        fitted[str(known[f"{side}_adapter"][0])] = {"temperature": found.temperature, "rows": float(found.rows)}
    return fitted


def _reasons(scored: pl.DataFrame, side: str) -> dict[str, Any]:
    texts = scored[f"{side}_reasoning"].drop_nulls()
    return {"written": len(texts), "distinct": texts.n_unique()}


def _disagreements(scored: pl.DataFrame) -> list[dict[str, Any]]:
    different = scored.filter(
        pl.col("active_action").is_not_null()
        & pl.col("shadow_action").is_not_null()
        & (pl.col("active_action") != pl.col("shadow_action"))
    )
    chosen = different[:: max(1, len(different) // DISAGREEMENTS)][:DISAGREEMENTS]
    columns = (
        "timestamp",
        "ticker",
        "price",
        "active_action",
        "shadow_action",
        "forward_return",
        "active_reasoning",
        "shadow_reasoning",
    )
    return [{**row, "timestamp": row["timestamp"].isoformat()} for row in chosen.select(columns).iter_rows(named=True)]


def _baselines(config: Config, run: RunFolder, scored: pl.DataFrame) -> dict[str, Any]:
    known = scored.filter(pl.col("forward_return").is_not_null())
    if known.is_empty():
        return {}
    first, last = known["timestamp"].min(), known["timestamp"].max()
    market = decision_rows(config, start=first, end=last + timedelta(minutes=1))  # type: ignore[arg-type,operator]
    joined = known.select("timestamp", "ticker", "forward_return").join(
        market, left_on=("timestamp", "ticker"), right_on=("decision_time", "asset"), how="inner", maintain_order="left"
    )
    meta = read_examples(run).meta.filter(pl.col("split") == "train")
    classes = (
        meta["label"]
        .cast(pl.String)
        .replace_strict({name: k for k, name in enumerate(DECISIONS)}, return_dtype=pl.Int64)
    )
    actions = baseline_actions(joined, meta, classes.to_numpy(), config.seed)
    return {
        name: baseline_metrics(said, joined["forward_return"], config.evaluate.move) for name, said in actions.items()
    }


def _print(verdict: Mapping[str, Any], found: Mapping[str, Any], reporter: Reporter) -> None:
    for side, role in (("active", "incumbent"), ("shadow", "candidate")):
        entry = found[side]
        reporter.say(
            f"  {role}: BUY/SELL accuracy {_percent(entry['accuracy_signals'])} on {entry['signals']} signals, "
            f"all {_percent(entry['accuracy_all'])}, flip rate {_percent(entry['flip_rate'])}"
        )
    for name, entry in found.get("baselines", {}).items():
        reporter.say(f"  {name}: BUY/SELL accuracy {_percent(entry['accuracy_signals'])} on {entry['signals']} signals")
    for criterion in verdict["criteria"]:
        mark = "ok  " if criterion["passed"] else "FAIL"
        value = criterion["value"]
        shown = "none" if value is None else f"{value:.4g}"
        reporter.say(f"  {mark} {criterion['name']}: {shown} (limit {criterion['limit']:g})")


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    pairs = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    return {"journal": run.file(*JOURNAL), "dataset": run.file("dataset"), **pairs}


STAGE = Stage(
    name="evaluate",
    title="Evaluate and decide",
    tables=("evaluate", "labels", "data"),
    inputs=_inputs,
    outputs=(
        "evaluation/metrics.json",
        "evaluation/verdict.json",
        "evaluation/scored.parquet",
        "evaluation/calibration.json",
    ),
    work=evaluate,
)
