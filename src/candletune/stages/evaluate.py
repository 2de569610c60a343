"""The `evaluate` stage: a journal and the candles that followed become metrics, intervals, baselines and a verdict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from candletune.config import Config, EvaluateConfig
from candletune.console import Reporter
from candletune.dataset import load_pair, read_examples
from candletune.decide.calibration import fit_calibration
from candletune.decide.priors import shares_of
from candletune.decisions import DECISIONS
from candletune.evaluation.baselines import SILENT, baseline_actions, contests, unbeaten
from candletune.evaluation.compare import compare
from candletune.evaluation.controls import shifted_accuracy
from candletune.evaluation.decide import criteria_of, decide
from candletune.evaluation.grounding import grounding
from candletune.evaluation.metrics import by_group, outcome_classes, side_metrics
from candletune.evaluation.outcomes import join_outcomes, regime, score_rows
from candletune.evaluation.review.tally import reviewed
from candletune.evaluation.source import journal_path, models_of, open_journal
from candletune.evaluation.table import show
from candletune.fields.columns import indicator_rows
from candletune.files import atomic_path, read_json, write_json
from candletune.journal import SIDES
from candletune.market.candles import find_candle_file
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

NUMBERS = {name: number for number, name in enumerate(DECISIONS)}
DISAGREEMENTS = 50
LEAST_CALIBRATED = 200
"""Outcomes below which a calibration would fit noise."""


def evaluate(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary."""
    rows, problems = open_journal(config, run, reporter)
    models = models_of(rows, config, run)
    scored = score_rows(join_outcomes(rows, config), config.evaluate.move)
    del rows
    found = measure(scored, config)
    found["problems"] = {name: problems[name] for name in ("torn", "broken", "duplicates")}
    found["journal"] = {"out_of_order": problems["out_of_order"], "late": problems["late"]}
    found["grounding"] = grounding(config, scored)
    if config.evaluate.baselines:
        found["baselines"] = _baselines(config, run, scored, found["comparison"]["block"])
    found["reviews"] = _reviews(config, run, models, reporter)
    criteria = criteria_of(found, config.evaluate)
    verdict, reason = decide(criteria)
    record = {
        "version": 1,
        "verdict": verdict,
        "reason": reason,
        "rule": config.evaluate.criteria,
        "criteria": [criterion.record() for criterion in criteria],
        **models,
        "forced": bool(scored["forced"].any()),
        "rows": len(scored),
        "notes": notes(found, config.evaluate),
    }
    with atomic_path(run.scored) as path:
        scored.write_parquet(path)
    write_json(run.calibration, _calibrations(scored, config))
    write_json(run.metrics, found)
    write_json(run.verdict, record)
    show(record, found, reporter)
    return {"headline": f"{verdict}: {reason}", "verdict": verdict, "reason": reason, "rows": len(scored)}


def notes(found: Mapping[str, Any], limits: EvaluateConfig) -> list[str]:
    """What the numbers mean beyond the criteria, in plain sentences."""
    said = []
    needed, days = found["comparison"]["days_needed"], found["comparison"]["days"]
    if needed is not None and needed > days:
        said.append(
            f"{days:.0f} days were seen; with this gain and this noise about {needed - days:,.0f} more are needed to "
            "tell the models apart."
        )
    mine = found["shadow"]["accuracy_signals"]
    if mine is not None and (names := unbeaten(found.get("baselines", {}))):
        said.append(f"The candidate does not clearly beat: {', '.join(names)}.")
    control = found["controls"]["shadow"]
    if control is not None and control["as_good"] > 0.05:
        said.append(
            f"Held against outcomes of other times, the candidate's calls do as well in {control['as_good']:.0%} of "
            "the shifts: its accuracy is what chance gives."
        )
    if limits.criteria == "full" and (found.get("reviews") or {"items": 0})["items"] < limits.min_reviewed:
        said.append(
            f"The reasons are not reviewed by people ({limits.min_reviewed} a model are wanted), so they count neither "
            "for nor against; candletune review opens the page for it."
        )
    return said


def measure(scored: pl.DataFrame, config: Config) -> dict[str, Any]:
    """Both sides' metrics and their comparison, from scored rows in time order."""
    limits = config.evaluate
    found: dict[str, Any] = {
        side: side_metrics(scored, side, move=limits.move, fee=limits.fee) for side in ("active", "shadow")
    }
    found["comparison"] = compare(scored, config)
    found["tickers"] = by_group(scored, pl.col("ticker"))
    found["months"] = by_group(scored, pl.col("timestamp").dt.strftime("%Y-%m"))
    found["regimes"] = by_group(scored, regime())
    apart = max(found["comparison"]["overlap"] + 1, 24)
    found["controls"] = {side: shifted_accuracy(scored, side, move=limits.move, apart=apart) for side in SIDES}
    found["reasons"] = {side: _reasons(scored, side) for side in ("active", "shadow")}
    found["disagreements"] = _disagreements(scored)
    return found


def _reviews(config: Config, run: RunFolder, models: Mapping[str, Any], reporter: Reporter) -> dict[str, Any] | None:
    """What reviewers said of the judged models' reasons; None when nobody did."""
    found = reviewed(
        config, run, {"active": models["incumbent"]["adapter_sha256"], "shadow": models["candidate"]["adapter_sha256"]}
    )
    if found is None and run.reviews.exists():
        reporter.warn(
            f"{run.reviews}: holds no finished review of these models' reasons in the replay, so none counts; "
            "finish one with `candletune review`"
        )
    return found


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


def _baselines(config: Config, run: RunFolder, scored: pl.DataFrame, block: float) -> dict[str, Any]:
    """Every baseline on the scored rows that have an outcome and indicators."""
    known = scored.filter(pl.col("forward_return").is_not_null())
    numbers = pl.concat([indicator_rows(load_pair(config, pair)) for pair in config.data.pairs])
    joined = known.select("timestamp", "ticker", "forward_return", "past_return", "shadow_acts", "shadow_correct").join(
        numbers,
        left_on=("timestamp", "ticker"),
        right_on=("decision_time", "asset"),
        how="inner",
        maintain_order="left",
    )
    if joined.is_empty():
        return {}
    train = read_examples(run).meta.filter(pl.col("split") == "train")
    classes = train["label"].cast(pl.String).replace_strict(NUMBERS, return_dtype=pl.Int64)
    natural = shares_of(read_json(run.dataset_manifest)["natural_prior"])
    said = baseline_actions(
        joined,
        train,
        classes.to_numpy(),
        threshold=config.labels.threshold,
        natural=natural if config.live.prior_correction else None,
        seed=config.seed,
    )
    base = run.untuned
    if config.evaluate.journal is None and base.exists():
        answers = pl.read_parquet(base)
        actions = joined.join(answers, on=("timestamp", "ticker"), how="left", maintain_order="left")["action"]
        said["untuned base"] = actions.replace_strict(NUMBERS, return_dtype=pl.Int64).fill_null(SILENT).to_numpy()
    return contests(joined, said, config.evaluate, block=block, seed=config.seed)


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    pairs = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    base = run.untuned
    reviews = run.reviews
    optional = {name: path for name, path in (("untuned base", base), ("reviews", reviews)) if path.exists()}
    return {"journal": journal_path(config, run), "dataset": run.dataset, **pairs, **optional}


STAGE = Stage(
    name="evaluate",
    title="Evaluate and decide",
    tables=("evaluate", "labels", "data", "live", "prompt", "review"),
    inputs=_inputs,
    outputs=(
        "evaluation/metrics.json",
        "evaluation/verdict.json",
        "evaluation/scored.parquet",
        "evaluation/calibration.json",
    ),
    work=evaluate,
)
