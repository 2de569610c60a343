"""Indicators of the live trader's prompt, from candles up to and including the row only.

TA-Lib computes; formulas: RSI and EMA after Wilder (1978) and TA-Lib's documentation, MACD after Appel, Bollinger
bands after Bollinger (population standard deviation). Rows inside the longest warm-up are null.
"""

import numpy as np
import polars as pl
import talib
from numpy.typing import NDArray

RSI_PERIOD = 14
MACD_PERIODS = (12, 26, 9)
EMA_PERIODS = (9, 21)
BOLLINGER = (20, 2.0)
WARM_UP = 150
"""Rows dropped at the start of a history: by then EMA(26) and Wilder's RSI have forgotten their seed to 0.01 %."""
INDICATORS = ("change_24h", "rsi", "macd_hist", "ema_fast", "ema_slow", "ema_gap_pct", "ema_bullish", "bb_percent")


def add_indicators(frame: pl.DataFrame, *, day: int) -> pl.DataFrame:
    """Add the indicator columns to a candle frame.

    Args:
        frame: ascending candles with `close` (Float64).
        day: candles in 24 hours, for the 24h change.

    Returns:
        The frame with rsi (0..100), macd_hist (price units), ema_fast, ema_slow (price units), ema_gap_pct (%),
        ema_bullish (bool), bb_percent (%B: 0 lower band, 1 upper band), change_24h (%).
        The first `WARM_UP` rows carry nulls.
    """
    close = frame["close"].to_numpy()
    rsi = _rsi(frame["close"])
    _, _, hist = talib.MACD(close, *MACD_PERIODS)
    fast, slow = (talib.EMA(close, period) for period in EMA_PERIODS)
    upper, _, lower = talib.BBANDS(close, BOLLINGER[0], BOLLINGER[1], BOLLINGER[1])
    width = upper - lower
    # A window of equal closes has no width: the price sits in the middle of its bands.
    percent = np.where(width > 0, (close - lower) / np.where(width > 0, width, 1.0), 0.5)
    added = frame.with_columns(
        rsi=pl.Series(rsi),
        macd_hist=pl.Series(hist),
        ema_fast=pl.Series(fast),
        ema_slow=pl.Series(slow),
        ema_gap_pct=pl.Series((fast / slow - 1) * 100),
        ema_bullish=pl.Series(fast > slow),
        bb_percent=pl.Series(percent),
        # Across a gap the row `day` candles back is older than a day: no change is better than a wrong one.
        change_24h=pl.when(pl.col("date") - pl.col("date").shift(day) == pl.duration(days=1)).then(
            (pl.col("close") / pl.col("close").shift(day) - 1) * 100
        ),
    )
    warm = pl.int_range(pl.len()) >= WARM_UP
    return added.with_columns(pl.when(warm).then(pl.col(name)).alias(name) for name in INDICATORS)


def _rsi(close: pl.Series) -> NDArray[np.float64]:
    """RSI; 50 where a market that stands still has neither gains nor losses, for which TA-Lib says 0."""
    rsi = talib.RSI(close.to_numpy(), RSI_PERIOD)
    still = close.rolling_max(RSI_PERIOD + 1) == close.rolling_min(RSI_PERIOD + 1)
    filled: NDArray[np.float64] = np.where((rsi == 0) & still.fill_null(False).to_numpy(), 50.0, rsi)
    return filled


def bollinger_words(percent: pl.Expr) -> pl.Expr:
    """%B as the prompt says it: outside a band, near one (within a fifth of the width), or inside."""
    return (
        pl.when(percent > 1).then(pl.lit("above upper band"))
        .when(percent >= 0.8).then(pl.lit("near upper band"))
        .when(percent < 0).then(pl.lit("below lower band"))
        .when(percent <= 0.2).then(pl.lit("near lower band"))
        .when(percent.is_not_null()).then(pl.lit("inside bands"))
    )  # fmt: skip
