"""Is the dataset what it says? Rows rebuilt from cut candles, labels recomputed, overlap and duplicates counted.

`describe_dataset` is cheap and runs with every build. `rebuild` cuts every input after a row's decision time and makes
the row again: the same bytes prove that nothing later went into it.
"""

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.dataset.files import CARD, Examples, read_examples
from candletune.dataset.rows import PairCandles, load_timeframes
from candletune.errors import InputError
from candletune.fields.columns import add_context, describe_rows, indicator_rows
from candletune.fields.registry import COLUMNS
from candletune.files import read_json, write_json
from candletune.hashes import sha256_path
from candletune.labels import RETURN_DIGITS, label_candles, labels_for
from candletune.market.candles import Candles, ticker_of
from candletune.market.sentiment import Sentiment, load_sentiment
from candletune.prompts.context import context_of
from candletune.prompts.template import Template, load_template
from candletune.runs import RunFolder
from candletune.splits import EVAL, TRAIN

FOLDER = "audit"


def average_uniqueness(starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """How much of each outcome window belongs to one example alone.

    Lopez de Prado, Advances in Financial Machine Learning (2018), section 4.4: the mean over a window's steps of one
    over the number of windows open at that step. The sum over all examples is the effective number of independent ones.

    Args:
        starts: first step of each window, shape (n,); several windows may start together.
        length: steps of every window.

    Returns:
        Uniqueness in (0, 1], shape (n,).
    """
    first = starts - starts.min()
    change = np.zeros(int(first.max()) + length + 1)
    np.add.at(change, first, 1.0)
    np.add.at(change, first + length, -1.0)
    together = np.cumsum(change)[:-1]
    share = np.concatenate(
        [[0.0], np.cumsum(np.divide(1.0, together, where=together > 0, out=np.zeros_like(together)))]
    )
    uniqueness: NDArray[np.float64] = (share[first + length] - share[first]) / length
    return uniqueness


def describe_dataset(config: Config, meta: pl.DataFrame, prompts: Sequence[str]) -> dict[str, Any]:
    """Overlap, effective size, duplicates, class shares and the gap between train and eval.

    Args:
        config: gives horizon and timeframe.
        meta: the sidecar.
        prompts: row for row.
    """
    minutes, horizon = timeframe_minutes(config.data.timeframe), config.labels.horizon
    steps = meta["decision_time"].dt.epoch("us").to_numpy() // (minutes * 60_000_000)
    assets = meta["asset"].to_numpy()
    per_asset = sum(float(average_uniqueness(steps[assets == name], horizon).sum()) for name in set(assets.tolist()))
    train, evaluation = (np.sort(steps[(meta["split"] == split).to_numpy()]) for split in (TRAIN, EVAL))
    nearest = _nearest(train, evaluation)
    return {
        "examples": len(meta),
        "effective_per_asset": round(per_asset, 1),
        "effective_pooled": round(float(average_uniqueness(steps, horizon).sum()), 1),
        "train_rows_overlapping_eval": _overlapping(train, evaluation, horizon),
        "nearest_train_eval_hours": None if nearest is None else nearest * minutes / 60,
        "duplicate_prompts": len(prompts) - len(set(prompts)),
        "by_asset": _counts(meta, pl.col("asset")),
        "by_month": _counts(meta, pl.col("decision_time").dt.strftime("%Y-%m")),
    }


def _nearest(train: NDArray[np.int64], evaluation: NDArray[np.int64]) -> int | None:
    """Fewest candles between a train and an eval decision, of any asset."""
    if not len(train) or not len(evaluation):
        return None
    after = np.searchsorted(train, evaluation)
    before = np.abs(evaluation - train[np.clip(after - 1, 0, None)])
    return int(np.minimum(before, np.abs(evaluation - train[np.clip(after, None, len(train) - 1)])).min())


def _overlapping(train: NDArray[np.int64], evaluation: NDArray[np.int64], horizon: int) -> int:
    """Train rows whose outcome window shares a candle with an eval row's, of any asset."""
    from_here = np.searchsorted(evaluation, train - horizon, side="right")
    to_here = np.searchsorted(evaluation, train + horizon, side="left")
    return int((to_here > from_here).sum())


def _counts(meta: pl.DataFrame, key: pl.Expr) -> dict[str, dict[str, int]]:
    table = meta.group_by(key.alias("key"), "label").len().sort("key", "label")
    counts: dict[str, dict[str, int]] = {}
    for name, label, count in table.iter_rows():
        counts.setdefault(name, {})[label] = count
    return counts


def rebuild(config: Config, examples: Examples, count: int, reporter: Reporter) -> list[str]:
    """Make `count` random rows again from inputs cut at their decision time; one line for each difference.

    Every numeric and text column of the sidecar and the prompt's bytes must be the same, and the label must follow
    from closes looked up by their time.
    """
    template, sentiment = load_template(config.prompt.template), load_sentiment(config.data)
    picks = sorted(random.Random(config.seed).sample(range(len(examples.meta)), min(count, len(examples.meta))))  # noqa: S311
    pairs = {ticker_of(pair): pair for pair in config.data.pairs}
    for index in picks:
        if (asset := examples.meta["asset"][index]) not in pairs:
            raise InputError(f"dataset: row {index + 1} is of {asset}, which data.pairs does not name")
    problems: list[tuple[int, str]] = []
    with reporter.task("Rebuild rows from cut candles", total=len(picks)) as task:
        # A pair after the other, so that one pair's candles are in memory.
        for ticker, pair in pairs.items():
            mine = [index for index in picks if examples.meta["asset"][index] == ticker]
            if not mine:
                continue
            candles = load_timeframes(config, pair)
            for index in mine:
                row = examples.meta.row(index, named=True)
                place = f"row {index + 1} ({ticker} {row['decision_time']:%Y-%m-%d %H:%M})"
                for what in _differences(config, candles, sentiment, row, examples.prompts[index], template):
                    problems.append((index, f"{place}: {what}"))
                task.advance()
    return [problem for _, problem in sorted(problems, key=lambda found: found[0])]


def _differences(
    config: Config, candles: PairCandles, sentiment: Sentiment, row: dict[str, Any], prompt: str, template: Template
) -> list[str]:
    time: datetime = row["decision_time"]
    if row["timeframe"] not in config.timeframes:
        return [f"the timeframe is {row['timeframe']}, which dataset.timeframes does not name"]
    cut = candles.until(time).of(row["timeframe"])
    last = describe_rows(indicator_rows(cut).tail(1), cut, config.data)
    again = add_context(last, sentiment.until(time), config.data).select(COLUMNS).row(0, named=True)
    found = [f"{name} is {again[name]!r}, not {row[name]!r}" for name in COLUMNS if again[name] != row[name]]
    if template.render(context_of(again)) != prompt:
        found.append("the prompt has other bytes")
    return found + (_label_differences(config, candles.of(row["timeframe"]), row) if not config.labels.shuffle else [])


def _label_differences(config: Config, candles: Candles, row: dict[str, Any]) -> list[str]:
    """The label again: for the fixed rule from two closes found by their times, else from the labelling function."""
    rule = labels_for(config.labels, config.data.timeframe, candles.timeframe)
    minutes, horizon = timeframe_minutes(candles.timeframe), rule.horizon
    opened = row["decision_time"] - timedelta(minutes=minutes)
    window = candles.frame.filter(pl.col("date").is_between(opened, opened + timedelta(minutes=minutes * horizon)))
    if len(window) != horizon + 1:
        return ["its outcome window is not whole"]
    if config.labels.method == "fixed":
        change = round(window["close"][-1] / window["close"][0] - 1, RETURN_DIGITS)
        limit = config.labels.threshold
        label = "BUY" if change > limit else "SELL" if change < -limit else "HOLD"
    else:
        until = candles.frame.filter(pl.col("date") <= window["date"][-1])
        again = label_candles(until, rule, minutes).filter(pl.col("decision_time") == row["decision_time"])
        change, label = again["forward_return"][0], again["label"][0]
    found = [] if label == row["label"] else [f"the label is {label}, not {row['label']}"]
    same = math.isclose(change, row["forward_return"], rel_tol=0, abs_tol=2 * 10**-RETURN_DIGITS)
    return found + ([] if same else [f"the return is {change}, not {row['forward_return']}"])


def audit(config: Config, run: RunFolder, count: int, reporter: Reporter) -> dict[str, Any]:
    """Audit a run's dataset; writes `audit/audit.json` and `audit/card.html`, outside what training depends on.

    Returns:
        What `describe_dataset` says, and `rebuilt`, `problems`, `clean`.
    """
    from candletune.dataset.card import write_card

    examples = read_examples(run)
    manifest = read_json(run.dataset_manifest)
    result: dict[str, Any] = describe_dataset(config, examples.meta, examples.prompts)
    problems = rebuild(config, examples, count, reporter)
    if overlapping := result["train_rows_overlapping_eval"]:
        problems.append(f"{overlapping} train rows share outcome candles with eval rows (dataset.split=random leaks)")
    result |= {
        "rebuilt": min(count, len(examples.meta)),
        "problems": problems,
        "clean": not problems,
        "jsonl_sha256": sha256_path(run.jsonl),
    }
    write_json(run.file(FOLDER, "audit.json"), result)
    card = run.file(FOLDER, CARD)
    write_card(card, manifest | {"audit": result}, examples.meta, examples.prompts, examples.completions)
    return result
