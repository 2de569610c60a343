"""The `evaluate` stage: a journal and the candles that followed become metrics, intervals, baselines and a verdict."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.dataset import decision_rows, read_examples
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.evaluation.baselines import baseline_actions, baseline_metrics
from candletune.evaluation.decide import criteria_of, decide
from candletune.evaluation.metrics import agreement, by_group, side_metrics
from candletune.evaluation.outcomes import join_outcomes, score_rows
from candletune.evaluation.replay import JOURNAL
from candletune.evaluation.statistics import (
    Interval,
    Ratio,
    bootstrap_difference,
    days_needed,
    effective_size,
    sequential_factor,
)
from candletune.journal import Problems, read_frame
from candletune.market.candles import find_candle_file
from candletune.runs import RunFolder, Stage, atomic_path, write_json

DISAGREEMENTS = 50


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


def compare(scored: pl.DataFrame, config: Config) -> dict[str, Any]:
    """The candidate against the incumbent, paired in time."""
    limits = config.evaluate
    known = scored.filter(pl.col("forward_return").is_not_null())
    times = known.group_by("timestamp", maintain_order=True).agg(
        *(
            expression
            for side in ("active", "shadow")
            for expression in (
                pl.col(f"{side}_acts").fill_null(value=False).sum().cast(pl.Float64).alias(f"{side}_signals"),
                (pl.col(f"{side}_acts") & pl.col(f"{side}_correct"))
                .fill_null(value=False)
                .sum()
                .cast(pl.Float64)
                .alias(f"{side}_hits"),
                pl.col(f"{side}_signed").sum().alias(f"{side}_signed"),
            )
        )
    )
    ratio = {
        side: Ratio(times[f"{side}_hits"].to_numpy(), times[f"{side}_signals"].to_numpy())
        for side in ("active", "shadow")
    }
    lags = _overlap(times["timestamp"], config)
    block = max(2.0 * (lags + 1), len(times) ** (1 / 3))
    settings: dict[str, Any] = {
        "block": block,
        "resamples": limits.resamples,
        "confidence": limits.confidence,
        "seed": config.seed,
    }
    gain, error = bootstrap_difference(ratio["shadow"], ratio["active"], **settings)
    edge = Ratio(times["shadow_signed"].to_numpy(), times["shadow_signals"].to_numpy())
    nothing = Ratio(np.zeros(len(times)), np.ones(len(times)))
    signed, _ = bootstrap_difference(edge, nothing, **settings)
    # The candidate's signals are worth at most as many observations as there are times with one.
    acting = times.filter(pl.col("shadow_signals") > 0)
    hits = (acting["shadow_hits"] / acting["shadow_signals"]).to_numpy()
    effective = effective_size(hits, lags) if len(acting) else 0.0
    factor = sequential_factor(effective, 1 - limits.confidence)
    days = _days(known)
    both = (scored["active_status"] == "ok") & (scored["shadow_status"] == "ok")
    return {
        "accuracy_signals": asdict(gain),
        "standard_error": error if math.isfinite(error) else None,
        "sequential": asdict(_sequential(gain, error, factor)),
        "signed_return": asdict(signed),
        "agreement": agreement(scored),
        "coverage": float(both.sum()) / len(scored),
        "effective": round(effective, 1),
        "overlap": lags,
        "block": round(block, 2),
        "days": days,
        "days_needed": days_needed(gain.value, error, days, 0.0, factor),
    }


def _sequential(gain: Interval, error: float, factor: float) -> Interval:
    if gain.value is None or not math.isfinite(error):
        return Interval(gain.value, None, None)
    return Interval(gain.value, gain.value - factor * error, gain.value + factor * error)


def _overlap(times: pl.Series, config: Config) -> int:
    """Decision times that follow within one horizon: windows that share candles."""
    if len(times) < 2:
        return 0
    horizon = timedelta(minutes=timeframe_minutes(config.data.timeframe) * config.labels.horizon)
    step = times.diff().drop_nulls().median()
    assert isinstance(step, timedelta)  # noqa: S101 - the median of durations
    return max(0, math.ceil(horizon / step) - 1)


def _days(known: pl.DataFrame) -> float:
    if known.is_empty():
        return 0.0
    first, last = known["timestamp"].min(), known["timestamp"].max()
    return float((last - first) / timedelta(days=1))  # type: ignore[operator]


def _one_pair_of_models(rows: pl.DataFrame, run: RunFolder) -> None:
    for column in ("active_adapter", "shadow_adapter", "template_sha256", "base_sha256"):
        values = rows[column].drop_nulls().unique()
        if len(values) > 1:
            raise InputError(
                f"{run.file(*JOURNAL)}: {len(values)} different values of {column}; "
                "evaluate one pair of models at a time"
            )


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
    outputs=("evaluation/metrics.json", "evaluation/verdict.json", "evaluation/scored.parquet"),
    work=evaluate,
)
