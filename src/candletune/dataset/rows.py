"""Market rows of one pair after the other: a pair's candles are held only while it is worked on."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.fields.columns import add_context, describe_rows, indicator_rows
from candletune.fields.registry import COLUMNS
from candletune.hashes import sha256_bytes
from candletune.labels import label_candles
from candletune.market.candles import Candles, load_candles, ticker_of
from candletune.market.sentiment import load_sentiment
from candletune.prompts.context import context_of
from candletune.prompts.template import Template, load_template

LABELS = pl.Enum(DECISIONS)


def load_pair(config: Config, pair: str) -> Candles:
    """One configured pair's candles.

    Raises:
        InputError: the file is missing or broken.
    """
    return load_candles(config.data.folder, pair, config.data.timeframe)


def check_tickers(config: Config) -> None:
    """Two pairs may not share a ticker, since a prompt and a journal row name only that.

    Raises:
        InputError: they do.
    """
    tickers = [ticker_of(pair) for pair in config.data.pairs]
    if doubled := {ticker for ticker in tickers if tickers.count(ticker) > 1}:
        raise InputError(f"data.pairs: {', '.join(sorted(doubled))} appears in two pairs; keep one of them")


def decision_rows(config: Config, *, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
    """What was knowable at every decision time in [start, end), rendered; never looks into the future.

    Returns:
        Market rows of all pairs by decision time and asset, with `prompt` and `prompt_sha256`.

    Raises:
        InputError: a candle or context file, or the template, is missing or broken.
    """
    check_tickers(config)
    frames = []
    for pair in config.data.pairs:
        candles = load_pair(config, pair)
        rows = indicator_rows(candles)
        if start is not None:
            rows = rows.filter(pl.col("decision_time") >= start)
        if end is not None:
            rows = rows.filter(pl.col("decision_time") < end)
        frames.append(describe_rows(rows, candles, config.data))
    rows = add_context(pl.concat(frames), load_sentiment(config.data), config.data)
    return add_prompts(rows.select(COLUMNS).sort("decision_time", "asset"), load_template(config.prompt.template))


def add_prompts(rows: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Add `prompt` and `prompt_sha256` to market rows."""
    prompts = [template.render(context_of(row)) for row in rows.iter_rows(named=True)]
    hashes = [sha256_bytes(prompt.encode()) for prompt in prompts]
    return rows.with_columns(
        prompt=pl.Series(prompts, dtype=pl.String), prompt_sha256=pl.Series(hashes, dtype=pl.String)
    )


def labelled_pairs(config: Config, reporter: Reporter, title: str) -> Iterator[tuple[Candles, pl.DataFrame]]:
    """Each pair in turn, by ticker: its candles, and every decision time that has indicators and a label.

    Yields:
        The candles; and `asset` (Enum), `decision_time`, `forward_return`, `label` (Enum) by time.

    Raises:
        InputError: a file is missing or broken, or two pairs share a ticker.
    """
    check_tickers(config)
    minutes = timeframe_minutes(config.data.timeframe)
    assets = pl.Enum(sorted(ticker_of(pair) for pair in config.data.pairs))
    with reporter.task(title, total=len(config.data.pairs)) as task:
        for pair in sorted(config.data.pairs, key=ticker_of):
            candles = load_pair(config, pair)
            labels = label_candles(candles.frame, config.labels, minutes).drop_nulls("label")
            times = indicator_rows(candles).select(pl.col("asset").cast(assets), "decision_time")
            rows = times.join(labels, on="decision_time", how="inner", maintain_order="left")
            yield candles, rows.with_columns(pl.col("label").cast(LABELS))
            task.advance()


def complete_rows(config: Config, wanted: pl.DataFrame) -> pl.DataFrame:
    """The whole market row of each wanted decision time, in the order given.

    Args:
        config: names candles and context.
        wanted: `asset`, `decision_time` and further columns, which are kept.

    Returns:
        `fields.registry.COLUMNS` and the further columns.
    """
    wanted = wanted.with_row_index("_row").with_columns(pl.col("asset").cast(pl.String))
    extra = [name for name in wanted.columns if name not in ("asset", "decision_time")]
    frames = []
    for pair in config.data.pairs:
        mine = wanted.filter(pl.col("asset") == ticker_of(pair)).drop("asset")
        if mine.is_empty():
            continue
        candles = load_pair(config, pair)
        rows = indicator_rows(candles).join(mine, on="decision_time", how="inner", maintain_order="left")
        frames.append(describe_rows(rows, candles, config.data))
    rows = add_context(pl.concat(frames), load_sentiment(config.data), config.data)
    return rows.sort("_row").select(*COLUMNS, *extra).drop("_row")
