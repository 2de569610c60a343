"""What happened after each decision: the only place outside `labels` where evaluation looks into the future.

Beside the outcome what was known at the time: the return, the volatility and the regime of the hours before.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.journal import SIDES
from candletune.labels import label_candles
from candletune.market.candles import find_candle_file, load_candles, ticker_of

ScoredRow = dict[str, Any]
"""A row of the scored journal by column, as polars gives it: times, texts and numbers."""
REGIMES = ("calm", "middling", "wild")
_OUTCOMES: dict[str, pl.DataType] = {
    "decision_time": pl.Datetime("us", "UTC"),
    "forward_return": pl.Float64(),
    "outcome": pl.String(),
    "past_return": pl.Float64(),
    "volatility": pl.Float64(),
    "regime": pl.String(),
    "ticker": pl.String(),
}


def join_outcomes(
    rows: pl.DataFrame,
    config: Config,
    *,
    candles: Literal["required", "optional"] = "required",
    now: datetime | None = None,
) -> pl.DataFrame:
    """Add to journal rows, by ticker and decision time:

    - `forward_return` over the labels' horizon; null where it has not passed (pending) or a candle is missing,
    - `outcome`, the class that the labels' own rule gives (BUY, SELL, HOLD): what the probabilities are of,
    - `past_return` over the horizon before, known at the decision,
    - `volatility`, the standard deviation of the last `labels.volatility_window` candles' returns, known too,
    - `regime`, see `regimes`.

    Only candles that have closed count: the last one of a file may still be forming.

    Args:
        rows: with `ticker` and `timestamp`.
        config: names pairs, candles and horizon.
        candles: `optional` leaves rows of a ticker without a pair or candles pending, as a page that only looks does.
        now: the present; none: the clock's, or the end of the candles where they are simulated.

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
    if now is None and not config.simulate.enabled:
        now = datetime.now(UTC)
    frames = [_ticker_outcomes(config, ticker, pairs[ticker], now) for ticker in tickers]
    return rows.join(
        pl.concat([empty, *frames]),
        left_on=("ticker", "timestamp"),
        right_on=("ticker", "decision_time"),
        how="left",
        maintain_order="left",
    )


def _ticker_outcomes(config: Config, ticker: str, pair: str, now: datetime | None) -> pl.DataFrame:
    frame = load_candles(config.data.folder, pair, config.data.timeframe).frame
    if now is not None:
        frame = frame.filter(pl.col("date") + config.candle <= now)
    horizon = config.labels.horizon
    labelled = label_candles(frame, config.labels, timeframe_minutes(config.data.timeframe))
    volatility = frame["close"].pct_change().rolling_std(config.labels.volatility_window)
    return labelled.select(
        "decision_time",
        "forward_return",
        outcome=pl.col("label").cast(pl.String),
        past_return=pl.col("forward_return").shift(horizon),
        volatility=volatility,
        regime=regimes(labelled["decision_time"], volatility),
        ticker=pl.lit(ticker),
    )


def _has_candles(config: Config, pair: str) -> bool:
    try:
        find_candle_file(config.data.folder, pair, config.data.timeframe)
    except InputError:
        return False
    return True


def regimes(times: pl.Series, volatility: pl.Series) -> pl.Series:
    """`calm`, `middling` or `wild`: in which third of all that was seen before its month a volatility lies.

    So a row's regime is known at its decision, and stays what it is however the market goes on. `unknown` in the first
    month and where there is no volatility yet.

    Args:
        times: ascending decision times of one ticker.
        volatility: known at them.
    """
    values = volatility.to_numpy()
    month = times.dt.year().to_numpy() * 12 + times.dt.month().to_numpy()
    found = np.full(len(values), "unknown", dtype=object)
    starts = np.flatnonzero(np.diff(month, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        known = values[:start]
        known = known[np.isfinite(known)]
        if not len(known):
            continue
        part = values[start:end]
        third = np.searchsorted(np.quantile(known, [1 / 3, 2 / 3]), part)
        found[start:end] = np.where(np.isfinite(part), np.array(REGIMES, dtype=object)[third], "unknown")
    return pl.Series("regime", found, dtype=pl.String)


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
