"""Everything that was knowable at each decision time of one pair, in one frame."""

import polars as pl

from candletune.config import DataConfig, timeframe_minutes
from candletune.errors import UsageError
from candletune.market.candles import Candles
from candletune.market.indicators import INDICATORS, add_indicators, bollinger_words
from candletune.market.sentiment import Sentiment, add_sentiment, load_sentiment
from candletune.market.timeframes import add_timeframe_summary

COLUMNS = (
    "asset",
    "decision_time",
    "close",
    *INDICATORS,
    "bb_position",
    "timeframe_summary",
    "fear_greed",
    "fear_greed_class",
    "news_sentiment",
    "sentiment_confidence",
    "headlines",
)


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
    """Add the pair's texts, bb_position and timeframe_summary, to some of its `indicator_rows`."""
    worded = rows.with_columns(bb_position=bollinger_words(pl.col("bb_percent")))
    return add_timeframe_summary(worded, candles.frame, data.context_timeframes, source=candles.timeframe)


def market_rows(candles: Candles, data: DataConfig, sentiment: Sentiment | None = None) -> pl.DataFrame:
    """One row per decision time after the warm-up, with the columns in `COLUMNS`.

    A row depends on candles that had closed by then, and on context published by then.

    Args:
        candles: one pair's.
        data: names the context files and timeframes.
        sentiment: the context files, read already; none: read here.

    Raises:
        InputError: a configured context file is missing or malformed.
    """
    rows = describe_rows(indicator_rows(candles), candles, data)
    return add_sentiment(rows, sentiment or load_sentiment(data), data).select(COLUMNS)
