"""Rows made again from inputs cut at their decision time, and what differs.

The same bytes prove that nothing later than the decision went into a row.
"""

import math
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.dataset.files import Examples
from candletune.dataset.pairs import PairCandles, load_timeframes
from candletune.dataset.render import loses_headlines, prompt_of
from candletune.errors import InputError
from candletune.fields.columns import add_context, describe_rows, indicator_rows
from candletune.fields.registry import COLUMNS
from candletune.labels import RETURN_DIGITS, label_candles, labels_for
from candletune.market.candles import Candles, ticker_of
from candletune.market.sentiment import Sentiment, load_sentiment
from candletune.prompts.template import Template, load_template

Row = Mapping[str, Any]
"""A row of the sidecar: column -> value."""


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
    return [problem for _, problem in sorted(problems)]


def _differences(
    config: Config, candles: PairCandles, sentiment: Sentiment, row: Row, prompt: str, template: Template
) -> list[str]:
    time: datetime = row["decision_time"]
    if row["timeframe"] not in config.timeframes:
        return [f"the timeframe is {row['timeframe']}, which dataset.timeframes does not name"]
    cut = candles.until(time).of(row["timeframe"])
    last = describe_rows(indicator_rows(cut).tail(1), cut, config.data)
    known = sentiment.until(time)
    told = Sentiment(known.fear_greed, None) if loses_headlines(row, config) else known
    again = add_context(last, told, config.data).select(COLUMNS).row(0, named=True)
    differences = [f"{name} is {again[name]!r}, not {row[name]!r}" for name in COLUMNS if again[name] != row[name]]
    if prompt_of(again, template) != prompt:
        differences.append("the prompt has other bytes")
    return differences + (
        _label_differences(config, candles.of(row["timeframe"]), row) if not config.labels.shuffle else []
    )


def _label_differences(config: Config, candles: Candles, row: Row) -> list[str]:
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
    differences = [] if label == row["label"] else [f"the label is {label}, not {row['label']}"]
    same = math.isclose(change, row["forward_return"], rel_tol=0, abs_tol=2 * 10**-RETURN_DIGITS)
    return differences + ([] if same else [f"the return is {change}, not {row['forward_return']}"])
