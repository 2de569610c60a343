"""Chronological split with purge and embargo (Lopez de Prado 2018, section 7.4), and the plan's random one."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

import polars as pl

TRAIN, EVAL = "train", "eval"
SPLITS = pl.Enum((TRAIN, EVAL))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEST_MONTHS = 12
"""Months kept out for the replay when no start of the test period is configured."""
TEST_SHARE = 3
"""The default test period is never longer than the history divided by this."""


def default_test_start(first: datetime, last: datetime) -> datetime:
    """When the test period begins unless `dataset.test_start` says it: the last 12 months, at most a third of all.

    Args:
        first: the first candle's open time, UTC.
        last: the last candle's close, UTC.

    Returns:
        A midnight, or a full hour where the test period is shorter than two days.
    """
    months = last.year * 12 + last.month - 1 - TEST_MONTHS
    year, month = divmod(months, 12)
    day = min(last.day, monthrange(year, month + 1)[1])
    year_ago = last.replace(year=year, month=month + 1, day=day, hour=0, minute=0, second=0, microsecond=0)
    third = (last - first) / TEST_SHARE
    grid = timedelta(days=1) if third >= timedelta(days=2) else timedelta(hours=1)
    # Rounded up: a period rounded down could be longer than a third.
    steps = -((_EPOCH - (last - third)) // grid)
    return max(year_ago, _EPOCH + steps * grid)


def eval_boundary(times: pl.DataFrame, fraction: float) -> datetime:
    """The decision time from which the last `fraction` of the rows lie.

    Args:
        times: `decision_time`, ascending, and `rows`, how many decisions are made then.
        fraction: share of the rows.
    """
    through = times["rows"].cum_sum()
    total = int(through[-1])
    row = min(total - 1, round(total * (1 - fraction)))
    boundary: datetime = times["decision_time"][int(through.search_sorted(row, side="right"))]
    return boundary


def purge_start(boundary: datetime, horizon: timedelta, embargo: timedelta) -> datetime:
    """Train decisions must lie before this: their outcome windows end, and the embargo passes, before the boundary."""
    return boundary - horizon - embargo


def chronological(boundary: datetime, *, horizon: timedelta, embargo: timedelta) -> pl.Expr:
    """The split of a `decision_time`: train, eval, or null for rows purged between them.

    Args:
        boundary: begins the eval period.
        horizon: time between a decision and its outcome.
        embargo: time left out beyond the purge.
    """
    time, last_train = pl.col("decision_time"), purge_start(boundary, horizon, embargo)
    return pl.when(time >= boundary).then(pl.lit(EVAL, SPLITS)).when(time < last_train).then(pl.lit(TRAIN, SPLITS))


def at_random(key: pl.Expr, evaluation: int) -> pl.Expr:
    """The plan's split, which leaks: the `evaluation` rows with the lowest of the keys 0, 1, 2, ... are eval rows."""
    return pl.when(key < evaluation).then(pl.lit(EVAL, SPLITS)).otherwise(pl.lit(TRAIN, SPLITS))
