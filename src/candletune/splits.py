"""Chronological split with purge and embargo (Lopez de Prado 2018, section 7.4), and the plan's random one."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from candletune.config import DatasetConfig

TRAIN, EVAL = "train", "eval"
SPLITS = pl.Enum((TRAIN, EVAL))


def eval_boundary(times: pl.Series, fraction: float) -> datetime:
    """The decision time from which the last `fraction` of the rows lie."""
    ordered = times if times.is_sorted() else times.sort()
    boundary: datetime = ordered[min(len(ordered) - 1, round(len(ordered) * (1 - fraction)))]
    return boundary


def purge_start(boundary: datetime, horizon: timedelta, embargo: timedelta) -> datetime:
    """Train decisions must lie before this: their outcome windows end, and the embargo passes, before the boundary."""
    return boundary - horizon - embargo


def assign_split(
    rows: pl.DataFrame, config: DatasetConfig, *, horizon: timedelta, embargo: timedelta, seed: int
) -> tuple[pl.DataFrame, datetime | None]:
    """Add `split` (an Enum: train, eval, or null for rows purged between them).

    Args:
        rows: candidates with `decision_time`.
        horizon: time between a decision and its outcome.
        embargo: time left out beyond the purge.
        seed: of the random split.

    Returns:
        The rows, and the boundary (None for a random split, which has none).
    """
    if config.split == "random":
        order = np.random.default_rng(seed).permutation(len(rows))
        chosen = pl.Series(order < round(len(rows) * config.eval_fraction))
        return rows.with_columns(
            split=pl.when(chosen).then(pl.lit(EVAL, SPLITS)).otherwise(pl.lit(TRAIN, SPLITS))
        ), None
    boundary = eval_boundary(rows["decision_time"], config.eval_fraction)
    last_train = purge_start(boundary, horizon, embargo)
    time = pl.col("decision_time")
    split = pl.when(time >= boundary).then(pl.lit(EVAL, SPLITS)).when(time < last_train).then(pl.lit(TRAIN, SPLITS))
    return rows.with_columns(split=split), boundary
