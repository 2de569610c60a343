"""Everything that was knowable at each decision time of one pair, in one frame."""

import polars as pl

from candletune.config import DataConfig, timeframe_minutes
from candletune.market.candles import Candles
from candletune.market.indicators import add_indicators
from candletune.market.sentiment import add_sentiment
from candletune.market.timeframes import add_timeframe_summary

INDICATORS = ("change_24h", "rsi", "macd_hist", "ema_fast", "ema_slow", "ema_gap_pct", "ema_bullish", "bb_percent")
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


def market_rows(candles: Candles, data: DataConfig) -> pl.DataFrame:
    """One row per decision time (a candle's close) after the warm-up, with the columns in `COLUMNS`.

    A row depends on candles that had closed by then, and on context published by then. Rows whose indicators are not
    defined (warm-up, or a gap inside the last 24 hours) are left out.

    Raises:
        InputError: a configured context file is missing or malformed.
    """
    minutes = timeframe_minutes(candles.timeframe)
    rows = (
        add_indicators(candles.frame, day=max(1, 1440 // minutes))
        .with_columns(asset=pl.lit(candles.ticker), decision_time=pl.col("date") + pl.duration(minutes=minutes))
        .drop_nulls(INDICATORS)
    )
    rows = add_timeframe_summary(rows, candles.frame, data.context_timeframes, source=candles.timeframe)
    return add_sentiment(rows, data).select(COLUMNS)
