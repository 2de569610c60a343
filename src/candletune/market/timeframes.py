"""Multi-timeframe context: candles resampled to longer timeframes, as of the decision time.

A resampled candle counts only once it has closed; the one still forming is never seen.
"""

import polars as pl
import talib

from candletune.config import timeframe_minutes
from candletune.market.resample import group_candles

RSI_PERIOD = 14
TREND_PERIODS = (9, 21)
_SETTLED = 30
"""Resampled candles before the first summary: RSI(14) and EMA(21) need their warm-up on that timeframe too."""


def resample(frame: pl.DataFrame, timeframe: str, *, source: str) -> pl.DataFrame:
    """Candles of a longer timeframe on the UTC grid.

    Args:
        frame: ascending candles of the `source` timeframe (date = open time).
        timeframe: the longer one.
        source: the frame's own timeframe.

    Returns:
        `closed` (Datetime[us, UTC], when the resampled candle closed) and `close`, for complete candles only: the last
        source candle of the bucket must be there, since its close is the bucket's close.
    """
    long, short = timeframe_minutes(timeframe), timeframe_minutes(source)
    buckets = group_candles(frame, timeframe, ("close",))
    closed = pl.col("date") + pl.duration(minutes=long)
    complete = pl.col("last") + pl.duration(minutes=short) == closed
    return buckets.filter(complete).select(closed=closed, close="close")


def timeframe_state(frame: pl.DataFrame, timeframe: str, *, source: str) -> pl.DataFrame:
    """RSI and trend of a longer timeframe.

    Returns:
        `closed`, `rsi` (0..100), `bullish` (EMA 9 over EMA 21) and `change` (% over its last candle).
    """
    candles = resample(frame, timeframe, source=source)
    close = candles["close"].to_numpy()
    if len(close) <= _SETTLED:
        return candles.head(0).select("closed", rsi=pl.lit(0.0), bullish=pl.lit(True), change=pl.lit(0.0))
    fast, slow = (talib.EMA(close, period) for period in TREND_PERIODS)
    return candles.select(
        "closed",
        rsi=pl.Series(talib.RSI(close, RSI_PERIOD)),
        bullish=pl.Series(fast > slow),
        change=(pl.col("close") / pl.col("close").shift(1) - 1) * 100,
    ).slice(_SETTLED)


def add_timeframe_summary(
    rows: pl.DataFrame, frame: pl.DataFrame, timeframes: tuple[str, ...], *, source: str
) -> pl.DataFrame:
    """Add `timeframe_summary` to rows with a `decision_time`: `4h bullish RSI 61 (+0.8%) | 12h ... | 1d ...`.

    A timeframe without enough history reads `4h N/A`. A state older than one of its candles (a gap) reads N/A too.
    """
    parts = []
    joined = rows
    for timeframe in timeframes:
        state = timeframe_state(frame, timeframe, source=source).rename(
            {"rsi": f"rsi_{timeframe}", "bullish": f"bullish_{timeframe}", "change": f"change_{timeframe}"}
        )
        joined = joined.join_asof(
            state,
            left_on="decision_time",
            right_on="closed",
            strategy="backward",
            # The oldest a state may be just before its next candle closes.
            tolerance=f"{timeframe_minutes(timeframe) - timeframe_minutes(source)}m",
            check_sortedness=False,
        ).drop("closed", strict=False)
        trend = pl.when(pl.col(f"bullish_{timeframe}")).then(pl.lit("bullish")).otherwise(pl.lit("bearish"))
        change = pl.col(f"change_{timeframe}").round(1) + 0.0
        text = pl.format(
            f"{timeframe} {{}} RSI {{}} ({{}}{{}}%)",
            trend,
            pl.col(f"rsi_{timeframe}").round(0).cast(pl.Int64),
            pl.when(change >= 0).then(pl.lit("+")).otherwise(pl.lit("-")),
            change.abs().round(1),
        )
        parts.append(pl.coalesce(text, pl.lit(f"{timeframe} N/A")))
    if not parts:
        return rows.with_columns(timeframe_summary=pl.lit("N/A"))
    summary = pl.concat_str(parts, separator=" | ")
    return joined.with_columns(timeframe_summary=summary).select(*rows.columns, "timeframe_summary")
