"""Stamps of a journal's rows and the candles: outcomes are known at candles' closes only.

A row stamped with any other moment would never join an outcome; it is taken for the decision at the last close before.
"""

from datetime import datetime
from pathlib import Path

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.market.candles import decision_time, find_candle_file, open_times, ticker_of


def on_the_grid(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, int]:
    """The rows with every stamp at a candle's close, and how many were moved there.

    Of several rows of a ticker in one candle the first stays, the one a trader would have acted on.

    Args:
        rows: of a journal, with `timestamp` and `ticker`, in time order.
        config: names the timeframe.
    """
    stamps = rows.select(pl.col("timestamp").unique())
    closes = pl.Series(
        [decision_time(at, config.data.timeframe) for at in stamps["timestamp"]], dtype=pl.Datetime("us", "UTC")
    )
    moved = stamps.with_columns(close=closes).filter(pl.col("close") != pl.col("timestamp"))
    if moved.is_empty():
        return rows, 0
    joined = rows.join(moved, on="timestamp", how="left", maintain_order="left")
    count = len(joined) - joined["close"].null_count()
    snapped = joined.with_columns(timestamp=pl.coalesce("close", "timestamp")).drop("close")
    return snapped.unique(("ticker", "timestamp"), keep="first", maintain_order=True), count


def say_moved(before: pl.DataFrame, after: pl.DataFrame, moved: int, config: Config, reporter: Reporter) -> None:
    """Say how many rows were moved, and how many were left out because their candle had one already."""
    if not moved:
        return
    left_out = len(before) - len(after)
    again = f"; {left_out} came in a candle that had a row already and are left out" if left_out else ""
    reporter.warn(
        f"journal: {moved} of {len(before)} rows are not stamped with the close of a {config.data.timeframe} candle: "
        f"each is taken for the decision at the last close before{again}"
    )


def warn_if_nothing_is_known(scored: pl.DataFrame, config: Config, reporter: Reporter) -> None:
    """Say why not a single outcome is known: candles that end too early, or that do not cover the rows' time."""
    if scored["forward_return"].null_count() < len(scored):
        return
    first: datetime = scored["timestamp"].min()  # type: ignore[assignment]
    due = first + config.horizon
    ends = [end for ticker in scored["ticker"].unique().sort() if (end := _candles_end(config, ticker)) is not None]
    newest = max(ends, default=None)
    if newest is None:
        why = "there are no candles of these tickers"
    elif newest < due:
        why = (
            f"the newest candle closed at {newest:%Y-%m-%d %H:%M} UTC, the first outcome is known at "
            f"{due:%Y-%m-%d %H:%M}; bring the candles up to date, or wait"
        )
    else:
        why = f"candles are missing after the decisions, from {first:%Y-%m-%d %H:%M} UTC on; download them again"
    reporter.warn(f"not one of {len(scored)} rows has an outcome, so nothing can be judged: {why}")


def known_candle_files(config: Config) -> list[Path]:
    """Of the pairs that have one: a page that only looks shows no outcomes without candles, and says so."""
    files = []
    for pair in config.data.pairs:
        try:
            files.append(find_candle_file(config.data.folder, pair, config.data.timeframe))
        except InputError:
            continue
    return files


def _candles_end(config: Config, ticker: str) -> datetime | None:
    for pair in config.data.pairs:
        if ticker_of(pair) == ticker:
            try:
                path = find_candle_file(config.data.folder, pair, config.data.timeframe)
                last: datetime = open_times(path, config.data.timeframe)[-1]
            except (InputError, IndexError):
                return None
            return last + config.candle
    return None
