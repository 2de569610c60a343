"""Candles of a longer timeframe made from shorter ones, on the UTC grid."""

from collections.abc import Sequence

import polars as pl

from candletune.config import timeframe_minutes
from candletune.errors import InputError
from candletune.market.candles import COLUMNS, Candles

MAX_DISAGREEMENT = 0.01
"""A longer candle's close may lie this far (a share) from the close of its last shorter candle; beyond that the two
files are of different markets."""


_WHOLE = {
    "open": pl.col("open").first(),
    "high": pl.col("high").max(),
    "low": pl.col("low").min(),
    "close": pl.col("close").last(),
    "volume": pl.col("volume").sum(),
}
"""How a column of the longer candle is made from those of the shorter ones."""


def group_candles(frame: pl.DataFrame, timeframe: str, names: Sequence[str] = tuple(_WHOLE)) -> pl.DataFrame:
    """Candles grouped to a longer timeframe, complete or not.

    Args:
        frame: ascending candles (date = open time).
        timeframe: the longer one.
        names: the columns wanted.

    Returns:
        `date` (the group's open time), the columns wanted, `count` (candles in it) and `last` (the open time of its
        last candle).
    """
    # Polars starts a week on Monday, as exchanges do; counted in minutes it would start on the epoch's Thursday.
    every = timeframe if timeframe.endswith("w") else f"{timeframe_minutes(timeframe)}m"
    return frame.group_by_dynamic("date", every=every, start_by="window").agg(
        *(_WHOLE[name] for name in names), pl.len().alias("count"), pl.col("date").last().alias("last")
    )


def longer_candles(candles: Candles, timeframe: str, own: Candles | None) -> Candles:
    """A pair's candles of a longer timeframe: from their own file where it has them, made from the shorter ones else.

    Args:
        candles: the shorter ones.
        timeframe: the longer one.
        own: what the longer timeframe's own file holds; None when there is no such file.

    Returns:
        The candles; those made here only where every shorter candle is there. `report` counts them as `resampled`.

    Raises:
        InputError: both have a candle and their closes are far differing.
    """
    ratio = timeframe_minutes(timeframe) // timeframe_minutes(candles.timeframe)
    made = group_candles(candles.frame, timeframe).filter(pl.col("count") == ratio).select(COLUMNS)
    if own is None:
        frame, path, report = made, candles.path, dict.fromkeys(candles.report, 0)
        count = len(made)
    else:
        _refuse_another_market(made, own, candles)
        missing = made.join(own.frame, on="date", how="anti")
        frame = pl.concat([own.frame.select(COLUMNS), missing]).sort("date")
        path, report, count = own.path, own.report, len(missing)
    steps = frame["date"].diff().drop_nulls().dt.total_minutes() // timeframe_minutes(timeframe)
    report = {
        **report,
        "rows": len(frame),
        "gaps": int((steps > 1).sum()),
        "missing_candles": int((steps - 1).sum()),
        "zero_volume": int((frame["volume"] == 0).sum()),
        "resampled": count,
    }
    return Candles(frame, report, path, candles.ticker, timeframe)


def _refuse_another_market(made: pl.DataFrame, own: Candles, candles: Candles) -> None:
    differing = (
        made.join(own.frame, on="date", suffix="_own")
        .filter((pl.col("close_own") / pl.col("close") - 1).abs() > MAX_DISAGREEMENT)
        .select("date", "close", "close_own")
    )
    if not differing.is_empty():
        date, close, other = differing.row(0)
        raise InputError(
            f"{own.path}: the candle of {date:%Y-%m-%d %H:%M} closes at {other:g}, but at {close:g} in "
            f"{candles.path.name}; they are of different markets, so keep the files of one"
        )
