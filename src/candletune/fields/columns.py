"""Everything that was knowable at each decision time of one pair, in one frame: the columns of every field.

Values depend on candles up to and including the row only, and on context published by then.
"""

import polars as pl

from candletune.config import DataConfig, timeframe_minutes
from candletune.errors import UsageError
from candletune.fields.registry import COLUMNS, INDICATORS, candle_columns, context_columns, row_columns
from candletune.market.candles import Candles
from candletune.market.sentiment import Sentiment, load_sentiment

WARM_UP = 150
"""Rows dropped at the start of a history: by then EMA(26) and Wilder's RSI have forgotten their seed to 0.01 %."""


def add_indicators(frame: pl.DataFrame, *, day: int) -> pl.DataFrame:
    """Add the fields' candle columns (`INDICATORS`) to a candle frame.

    Args:
        frame: ascending candles (date, open, high, low, close, volume).
        day: candles in 24 hours.

    Returns:
        The frame with the columns of each field; the first `WARM_UP` rows carry nulls.
    """
    added = frame.with_columns(
        values.alias(name) for columns in candle_columns() for name, values in columns.compute(frame, day).items()
    )
    warm = pl.int_range(pl.len()) >= WARM_UP
    return added.with_columns(pl.when(warm).then(pl.col(name)).alias(name) for name in INDICATORS)


def indicator_rows(candles: Candles) -> pl.DataFrame:
    """The numbers alone: asset, decision_time, close and `INDICATORS`, one row per decision time (a candle's close).

    Rows whose indicators are not defined (warm-up, or a gap inside the last 24 hours) are left out.

    Raises:
        UsageError: the timeframe does not divide a day, so that there is no 24h change.
    """
    minutes = timeframe_minutes(candles.timeframe)
    if 1440 % minutes:
        raise UsageError(
            f"data.timeframe: {candles.timeframe} does not divide a day; use for example 15m, 1h, 4h or 1d"
        )
    return (
        add_indicators(candles.frame, day=1440 // minutes)
        .drop_nulls(INDICATORS)
        .select(
            pl.lit(candles.ticker).alias("asset"),
            (pl.col("date") + pl.duration(minutes=minutes)).alias("decision_time"),
            "close",
            *INDICATORS,
        )
    )


def describe_rows(rows: pl.DataFrame, candles: Candles, data: DataConfig) -> pl.DataFrame:
    """Add the fields' texts to some of a pair's `indicator_rows`."""
    for columns in row_columns():
        rows = columns.describe(rows, candles, data)
    return rows


def add_context(rows: pl.DataFrame, sentiment: Sentiment, data: DataConfig) -> pl.DataFrame:
    """Add the fields' context from outside to rows by decision time."""
    for columns in context_columns():
        rows = columns.join(rows, sentiment, data)
    return rows


def market_rows(candles: Candles, data: DataConfig, sentiment: Sentiment | None = None) -> pl.DataFrame:
    """One row per decision time after the warm-up, with the columns in `COLUMNS`.

    Args:
        candles: one pair's.
        data: names the context files and timeframes.
        sentiment: the context files, read already; none: read here.

    Raises:
        InputError: a configured context file is missing or malformed.
    """
    rows = describe_rows(indicator_rows(candles), candles, data)
    return add_context(rows, sentiment or load_sentiment(data), data).select(COLUMNS)
