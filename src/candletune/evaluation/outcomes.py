"""What happened after each decision: the only place outside `labels` where evaluation looks into the future.

Beside the outcome two things that were known at the time: the return and the volatility of the hours before.
"""

from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.journal import SIDES
from candletune.labels import forward_returns
from candletune.market.candles import find_candle_file, load_candles, ticker_of

ScoredRow = dict[str, Any]
"""A row of the scored journal by column, as polars gives it: times, texts and numbers."""
REGIMES = ("calm", "middling", "wild")
_OUTCOMES: dict[str, pl.DataType] = {
    "decision_time": pl.Datetime("us", "UTC"),
    "forward_return": pl.Float64(),
    "past_return": pl.Float64(),
    "volatility": pl.Float64(),
    "ticker": pl.String(),
}


def join_outcomes(
    rows: pl.DataFrame, config: Config, *, candles: Literal["required", "optional"] = "required"
) -> pl.DataFrame:
    """Add to journal rows, by ticker and decision time:

    - `forward_return` over the labels' horizon; null where it has not passed (pending) or a candle is missing,
    - `past_return` over the horizon before, known at the decision,
    - `volatility`, the standard deviation of the last `labels.volatility_window` candles' returns, known too.

    Args:
        rows: with `ticker` and `timestamp`.
        config: names pairs, candles and horizon.
        candles: `optional` leaves rows of a ticker without a pair or candles pending, as a page that only looks does.

    Raises:
        InputError: candles are required, and a ticker has no configured pair or its candles cannot be read.
    """
    pairs: Mapping[str, str] = {ticker_of(pair): pair for pair in config.data.pairs}
    tickers = rows["ticker"].unique().sort().to_list()
    if candles == "optional":
        tickers = [ticker for ticker in tickers if ticker in pairs and _has_candles(config, pairs[ticker])]
    elif unknown := [ticker for ticker in tickers if ticker not in pairs]:
        raise InputError(f"journal: ticker {unknown[0]} has no pair in data.pairs; add it to the configuration")
    empty = pl.DataFrame(schema=_OUTCOMES)
    frames = [_ticker_outcomes(config, ticker, pairs[ticker]) for ticker in tickers]
    return rows.join(
        pl.concat([empty, *frames]),
        left_on=("ticker", "timestamp"),
        right_on=("ticker", "decision_time"),
        how="left",
        maintain_order="left",
    )


def _ticker_outcomes(config: Config, ticker: str, pair: str) -> pl.DataFrame:
    frame = load_candles(config.data.folder, pair, config.data.timeframe).frame
    horizon = config.labels.horizon
    return forward_returns(frame, horizon, timeframe_minutes(config.data.timeframe)).select(
        "decision_time",
        "forward_return",
        past_return=pl.col("forward_return").shift(horizon),
        volatility=frame["close"].pct_change().rolling_std(config.labels.volatility_window),
        ticker=pl.lit(ticker),
    )


def _has_candles(config: Config, pair: str) -> bool:
    try:
        find_candle_file(config.data.folder, pair, config.data.timeframe)
    except InputError:
        return False
    return True


def regime() -> pl.Expr:
    """Thirds of each ticker's rows by the volatility known at the decision; `unknown` where there is none yet."""
    rank = pl.col("volatility").rank("ordinal") / pl.col("volatility").count()
    return (
        pl.when(rank <= 1 / 3).then(pl.lit(REGIMES[0]))
        .when(rank <= 2 / 3).then(pl.lit(REGIMES[1]))
        .when(rank.is_not_null()).then(pl.lit(REGIMES[2]))
        .otherwise(pl.lit("unknown"))
        .over("ticker")
    )  # fmt: skip


def correct(action: pl.Expr, change: pl.Expr, move: float) -> pl.Expr:
    """The plan's rule, the one place that has it: whether a decision was right.

    Args:
        action: BUY, SELL or HOLD.
        change: forward return, a fraction.
        move: BUY is right above it, SELL below minus it, HOLD within; all strict, so at exactly the move none is.
    """
    return (
        pl.when(action == "BUY").then(change > move)
        .when(action == "SELL").then(change < -move)
        .otherwise(change.abs() < move)
    )  # fmt: skip


def score_rows(rows: pl.DataFrame, move: float) -> pl.DataFrame:
    """Add, for `active` and `shadow`: `_correct` (the plan's rule), `_acts` (BUY or SELL) and `_signed` (return in the
    called direction). All are null where either side gave no answer or the outcome is pending: both are scored on the
    same rows, or a model that fails in wild hours would look better for it.

    Args:
        rows: with `forward_return`.
        move: see `correct`.
    """
    change = pl.col("forward_return")
    known = pl.all_horizontal(pl.col(f"{side}_action").is_not_null() for side in SIDES) & change.is_not_null()
    columns = []
    for side in SIDES:
        action = pl.col(f"{side}_action")
        signed = pl.when(action == "BUY").then(change).when(action == "SELL").then(-change)
        columns += [
            pl.when(known).then(correct(action, change, move)).alias(f"{side}_correct"),
            pl.when(known).then(action != "HOLD").alias(f"{side}_acts"),
            pl.when(known).then(signed).alias(f"{side}_signed"),
        ]
    return rows.with_columns(columns)
