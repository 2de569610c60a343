"""What happened after each decision: the only place outside `labels` where evaluation looks into the future."""

from collections.abc import Mapping

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.labels import forward_returns
from candletune.market.candles import load_candles, ticker_of


def join_outcomes(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Add `forward_return` over the labels' horizon to journal rows; null where it has not passed (pending).

    Raises:
        InputError: a ticker has no configured pair, or its candles cannot be read.
    """
    minutes = timeframe_minutes(config.data.timeframe)
    pairs: Mapping[str, str] = {ticker_of(pair): pair for pair in config.data.pairs}
    if unknown := sorted(set(rows["ticker"].unique()) - set(pairs)):
        raise InputError(f"journal: ticker {unknown[0]} has no pair in data.pairs; add it to the configuration")
    frames = []
    for ticker in rows["ticker"].unique().sort():
        candles = load_candles(config.data.folder, pairs[ticker], config.data.timeframe)
        returns = forward_returns(candles.frame, config.labels.horizon, minutes)
        frames.append(returns.select("decision_time", "forward_return", ticker=pl.lit(ticker)))
    outcomes = pl.concat(frames)
    return rows.join(
        outcomes,
        left_on=("ticker", "timestamp"),
        right_on=("ticker", "decision_time"),
        how="left",
        maintain_order="left",
    )


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
