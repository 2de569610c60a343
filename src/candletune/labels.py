"""The only module that looks into the future: what happened after a decision time.

- `fixed`: return_h = close[t+h] / close[t] - 1 against plus and minus the threshold, strict inequalities.
- `volatility`: the same return against plus and minus `volatility_factor` times the horizon volatility known at t,
  sigma * sqrt(h), with sigma the standard deviation of the last `volatility_window` candle returns.
- `triple_barrier`: BUY or SELL by which of the two volatility barriers the closes touch first within h candles, HOLD
  when neither (Lopez de Prado, Advances in Financial Machine Learning, 2018, section 3.4).
"""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import LabelsConfig, timeframe_minutes
from candletune.decisions import BUY, HOLD, SELL

RETURN_DIGITS = 12
"""A move of exactly 2 % must not pass a strict limit of 2 %, but in floating point 102 / 100 - 1 > 0.02."""


def forward_returns(frame: pl.DataFrame, horizon: int, minutes: int) -> pl.DataFrame:
    """The return over the next `horizon` candles, for each decision time.

    Args:
        frame: ascending candles with `date` (open time) and `close`.
        horizon: candles.
        minutes: length of a candle.

    Returns:
        `decision_time` (the candle's close) and `forward_return` (a fraction, to `RETURN_DIGITS` decimals), null where
        the window runs off the end or a candle inside it is missing.
    """
    # Times are unique and on the grid, so the window is whole exactly when its last candle sits where it should.
    whole = pl.col("date").shift(-horizon) - pl.col("date") == pl.duration(minutes=horizon * minutes)
    return frame.select(
        decision_time=pl.col("date") + pl.duration(minutes=minutes),
        forward_return=pl.when(whole).then(
            (pl.col("close").shift(-horizon) / pl.col("close") - 1).round(RETURN_DIGITS)
        ),
    )


def labels_for(config: LabelsConfig, shorter: str, timeframe: str) -> LabelsConfig:
    """The same rule over candles of a longer timeframe: equal hours to the outcome and of volatility.

    Args:
        config: counts in candles of `shorter`.
        shorter: timeframe.
        timeframe: a multiple of it that divides the horizon.
    """
    ratio = timeframe_minutes(timeframe) // timeframe_minutes(shorter)
    return config.model_copy(
        update={"horizon": config.horizon // ratio, "volatility_window": config.volatility_window // ratio}
    )


def label_candles(frame: pl.DataFrame, config: LabelsConfig, minutes: int) -> pl.DataFrame:
    """Labels of every decision time of one pair.

    Returns:
        `decision_time`, `forward_return` and `label` (BUY, SELL, HOLD, or null where there is no whole window or no
        volatility estimate yet).
    """
    labelled = forward_returns(frame, config.horizon, minutes)
    if config.method == "fixed":
        return labelled.with_columns(label=_side(pl.col("forward_return"), pl.lit(config.threshold)))
    barrier = horizon_volatility(frame, config, config.volatility_factor).alias("barrier")
    if config.method == "volatility":
        return (
            labelled.with_columns(barrier)
            .with_columns(label=_side(pl.col("forward_return"), pl.col("barrier")))
            .drop("barrier")
        )
    touched = _first_touch(frame["close"].to_numpy(), barrier.to_numpy(), config.horizon)
    return labelled.with_columns(
        label=pl.when(pl.col("forward_return").is_not_null() & barrier.is_not_null()).then(
            pl.Series(touched).replace_strict({1: BUY, -1: SELL, 0: HOLD}, return_dtype=pl.String)
        )
    )


def _side(value: pl.Expr, barrier: pl.Expr) -> pl.Expr:
    return (
        pl.when(value.is_null() | barrier.is_null()).then(None)
        .when(value > barrier).then(pl.lit(BUY))
        .when(value < -barrier).then(pl.lit(SELL))
        .otherwise(pl.lit(HOLD))
    )  # fmt: skip


def horizon_volatility(frame: pl.DataFrame, config: LabelsConfig, factor: float = 1.0) -> pl.Series:
    """Standard deviation of the return over the horizon, times a factor, as known at each row; null before a window.

    Args:
        frame: ascending candles with `close`.
        config: `volatility_window` and `horizon`.
        factor: barriers are a multiple of it.
    """
    change = frame["close"] / frame["close"].shift(1) - 1
    found: pl.Series = change.rolling_std(config.volatility_window) * (math.sqrt(config.horizon) * factor)
    return found.alias("volatility")


def _first_touch(close: NDArray[np.float64], barrier: NDArray[np.float64], horizon: int) -> NDArray[np.int8]:
    """1, -1 or 0 a row: which barrier the next `horizon` closes touch first."""
    side = np.zeros(len(close), dtype=np.int8)
    for step in range(1, min(horizon, len(close) - 1) + 1):
        move = np.full(len(close), np.nan)
        move[:-step] = np.round(close[step:] / close[:-step] - 1, RETURN_DIGITS)
        side = np.where(side != 0, side, np.where(move > barrier, 1, np.where(move < -barrier, -1, 0)))
    return side
