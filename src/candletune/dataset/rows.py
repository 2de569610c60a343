"""Market rows of one pair after the other: a pair's candles are held only while it is worked on."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.dataset.pairs import check_tickers, load_pair, load_timeframes
from candletune.decisions import DECISIONS
from candletune.fields.columns import add_context, describe_rows, indicator_rows
from candletune.fields.registry import COLUMNS
from candletune.hashes import sha256_bytes
from candletune.labels import label_candles, labels_for
from candletune.market.candles import Candles, ticker_of
from candletune.market.sentiment import Sentiment, load_sentiment
from candletune.prompts.context import context_of
from candletune.prompts.template import Template, load_template

LABELS = pl.Enum(DECISIONS)


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


def labelled_pairs(
    config: Config, reporter: Reporter, title: str
) -> Iterator[tuple[tuple[Candles, ...], pl.DataFrame]]:
    """Each pair in turn, by ticker: its candles, and every decision time that has indicators and a label.

    Yields:
        The candles of each timeframe decided on; and `asset`, `timeframe` (Enum), `decision_time`, `forward_return`,
        `label` (Enum) by time and timeframe.

    Raises:
        InputError: a file is missing or broken, or two pairs share a ticker.
    """
    check_tickers(config)
    assets = pl.Enum(sorted(ticker_of(pair) for pair in config.data.pairs))
    timeframes = pl.Enum(config.timeframes)
    with reporter.task(title, total=len(config.data.pairs)) as task:
        for pair in sorted(config.data.pairs, key=ticker_of):
            loaded = load_timeframes(config, pair)
            candles = tuple(loaded.of(timeframe) for timeframe in config.timeframes)
            frames = [_labelled(config, one) for one in candles]
            rows = pl.concat(frames).select(
                pl.col("asset").cast(assets),
                pl.col("timeframe").cast(timeframes),
                "decision_time",
                "forward_return",
                pl.col("label").cast(LABELS),
            )
            yield candles, rows if len(frames) == 1 else rows.sort("decision_time", "timeframe")
            task.advance()


def _labelled(config: Config, candles: Candles) -> pl.DataFrame:
    """Decision times with indicators and a label, by time."""
    rule = labels_for(config.labels, config.data.timeframe, candles.timeframe)
    labels = label_candles(candles.frame, rule, timeframe_minutes(candles.timeframe)).drop_nulls("label")
    times = indicator_rows(candles).select("asset", "decision_time", timeframe=pl.lit(candles.timeframe))
    return times.join(labels, on="decision_time", how="inner", maintain_order="left")


def complete_rows(config: Config, wanted: pl.DataFrame, sentiment: Sentiment | None = None) -> pl.DataFrame:
    """The whole market row of each wanted decision time, in the order given.

    Args:
        config: names candles and context.
        wanted: `asset`, `timeframe` (none: `data.timeframe`), `decision_time` and further columns, which are kept.
        sentiment: the context files, read already; none: read here.

    Returns:
        `fields.registry.COLUMNS` and the further columns.
    """
    if "timeframe" not in wanted.columns:
        wanted = wanted.with_columns(timeframe=pl.lit(config.data.timeframe))
    wanted = wanted.with_row_index("_row").with_columns(pl.col("asset", "timeframe").cast(pl.String))
    extra = [name for name in wanted.columns if name not in ("asset", "timeframe", "decision_time")]
    frames = []
    for pair in config.data.pairs:
        of_pair = wanted.filter(pl.col("asset") == ticker_of(pair)).drop("asset")
        if of_pair.is_empty():
            continue
        loaded = load_timeframes(config, pair)
        for timeframe in config.timeframes:
            mine = of_pair.filter(pl.col("timeframe") == timeframe).drop("timeframe")
            if mine.is_empty():
                continue
            candles = loaded.of(timeframe)
            rows = indicator_rows(candles).join(mine, on="decision_time", how="inner", maintain_order="left")
            frames.append(describe_rows(rows, candles, config.data))
    rows = add_context(pl.concat(frames), sentiment or load_sentiment(config.data), config.data)
    return rows.sort("_row").select(*COLUMNS, *extra).drop("_row")
