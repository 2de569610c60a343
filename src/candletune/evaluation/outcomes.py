"""What happened after each decision: the only place outside `labels` where evaluation looks into the future.

Beside the outcome two things that were known at the time: the return and the volatility of the hours before.
"""

from collections.abc import Mapping

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.labels import forward_returns
from candletune.market.candles import load_candles, ticker_of

REGIMES = ("calm", "middling", "wild")


def join_outcomes(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Add to journal rows, by ticker and decision time:

    - `forward_return` over the labels' horizon; null where it has not passed (pending) or a candle is missing,
    - `past_return` over the horizon before, known at the decision,
    - `volatility`, the standard deviation of the last `labels.volatility_window` candles' returns, known too.

    Raises:
        InputError: a ticker has no configured pair, or its candles cannot be read.
    """
    minutes, horizon = timeframe_minutes(config.data.timeframe), config.labels.horizon
    pairs: Mapping[str, str] = {ticker_of(pair): pair for pair in config.data.pairs}
    if unknown := sorted(set(rows["ticker"].unique()) - set(pairs)):
        raise InputError(f"journal: ticker {unknown[0]} has no pair in data.pairs; add it to the configuration")
    frames = []
    for ticker in rows["ticker"].unique().sort():
        candles = load_candles(config.data.folder, pairs[ticker], config.data.timeframe)
        change = candles.frame["close"].pct_change()
        frames.append(
            forward_returns(candles.frame, horizon, minutes).select(
                "decision_time",
                "forward_return",
                past_return=pl.col("forward_return").shift(horizon),
                volatility=change.rolling_std(config.labels.volatility_window),
                ticker=pl.lit(ticker),
            )
        )
    return rows.join(
        pl.concat(frames),
        left_on=("ticker", "timestamp"),
        right_on=("ticker", "decision_time"),
        how="left",
        maintain_order="left",
    )


def regime() -> pl.Expr:
    """Thirds of each ticker's rows by the volatility known at the decision; `unknown` where there is none yet."""
    place = pl.col("volatility").rank("ordinal") / pl.col("volatility").count()
    return (
        pl.when(place <= 1 / 3).then(pl.lit(REGIMES[0]))
        .when(place <= 2 / 3).then(pl.lit(REGIMES[1]))
        .when(place.is_not_null()).then(pl.lit(REGIMES[2]))
        .otherwise(pl.lit("unknown"))
        .over("ticker")
    )  # fmt: skip


def score_rows(rows: pl.DataFrame, move: float) -> pl.DataFrame:
    """Add, for `active` and `shadow`: `_correct` (the plan's rule), `_acts` (BUY or SELL) and `_signed` (return in the
    called direction). All are null where the side gave no answer or the outcome is pending.

    Args:
        rows: with `forward_return`.
        move: BUY is correct above it, SELL below minus it, HOLD within (all strict).
    """
    found = pl.col("forward_return")
    columns = []
    for side in ("active", "shadow"):
        action = pl.col(f"{side}_action")
        known = action.is_not_null() & found.is_not_null()
        correct = (
            pl.when(action == "BUY").then(found > move)
            .when(action == "SELL").then(found < -move)
            .otherwise(found.abs() < move)
        )  # fmt: skip
        signed = pl.when(action == "BUY").then(found).when(action == "SELL").then(-found)
        columns += [
            pl.when(known).then(correct).alias(f"{side}_correct"),
            pl.when(known).then(action != "HOLD").alias(f"{side}_acts"),
            pl.when(known).then(signed).alias(f"{side}_signed"),
        ]
    return rows.with_columns(columns)
