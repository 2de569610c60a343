"""How much the outcome windows of a dataset's examples overlap, and how many independent ones that leaves."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import DatasetDescription
from candletune.config import Config, timeframe_minutes
from candletune.splits import EVAL, TRAIN


def average_uniqueness(starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """How much of each outcome window belongs to one example alone.

    Lopez de Prado, Advances in Financial Machine Learning (2018), section 4.4: the mean over a window's steps of one
    over the number of windows open at that step. The sum over all examples is their effective sample size.

    Args:
        starts: first step of each window, shape (n,); several windows may start together.
        length: steps of every window.

    Returns:
        Uniqueness in (0, 1], shape (n,).
    """
    first = starts - starts.min()
    change = np.zeros(int(first.max()) + length + 1)
    np.add.at(change, first, 1.0)
    np.add.at(change, first + length, -1.0)
    together = np.cumsum(change)[:-1]
    share = np.concatenate(
        [[0.0], np.cumsum(np.divide(1.0, together, where=together > 0, out=np.zeros_like(together)))]
    )
    uniqueness: NDArray[np.float64] = (share[first + length] - share[first]) / length
    return uniqueness


def example_uniqueness(config: Config, meta: pl.DataFrame) -> NDArray[np.float64]:
    """Average uniqueness of each example among those of its own asset and split, (examples,).

    Args:
        config: gives horizon and timeframe.
        meta: the sidecar: `asset`, `decision_time`, `split`.
    """
    steps = _steps(config, meta)
    found = np.empty(len(meta))
    for (_, _), rows in meta.with_row_index("row").group_by("asset", "split"):
        places = rows["row"].to_numpy()
        found[places] = average_uniqueness(steps[places], config.labels.horizon)
    return found


def _steps(config: Config, meta: pl.DataFrame) -> NDArray[np.int64]:
    """Decision times as numbers of candles of `data.timeframe`."""
    minutes = timeframe_minutes(config.data.timeframe)
    steps: NDArray[np.int64] = meta["decision_time"].dt.epoch("us").to_numpy() // (minutes * 60_000_000)
    return steps


def describe_dataset(config: Config, meta: pl.DataFrame, prompts: Sequence[str]) -> DatasetDescription:
    """Overlap, effective sample size, duplicates, class shares and the gap between train and eval.

    Args:
        config: gives horizon and timeframe.
        meta: the sidecar.
        prompts: row for row.
    """
    minutes, horizon = timeframe_minutes(config.data.timeframe), config.labels.horizon
    steps = _steps(config, meta)
    assets = meta["asset"].to_numpy()
    per_asset = sum(float(average_uniqueness(steps[assets == name], horizon).sum()) for name in set(assets.tolist()))
    train, evaluation = (np.sort(steps[(meta["split"] == split).to_numpy()]) for split in (TRAIN, EVAL))
    nearest = _nearest(train, evaluation)
    return DatasetDescription(
        examples=len(meta),
        effective_per_asset=round(per_asset, 1),
        effective_pooled=round(float(average_uniqueness(steps, horizon).sum()), 1),
        train_rows_overlapping_eval=_overlapping(train, evaluation, horizon),
        nearest_train_eval_hours=None if nearest is None else nearest * minutes / 60,
        duplicate_prompts=len(prompts) - len(set(prompts)),
        by_asset=_counts(meta, pl.col("asset")),
        by_month=_counts(meta, pl.col("decision_time").dt.strftime("%Y-%m")),
    )


def _nearest(train: NDArray[np.int64], evaluation: NDArray[np.int64]) -> int | None:
    """Fewest candles between a train and an eval decision, of any asset."""
    if not len(train) or not len(evaluation):
        return None
    after = np.searchsorted(train, evaluation)
    before = np.abs(evaluation - train[np.clip(after - 1, 0, None)])
    return int(np.minimum(before, np.abs(evaluation - train[np.clip(after, None, len(train) - 1)])).min())


def _overlapping(train: NDArray[np.int64], evaluation: NDArray[np.int64], horizon: int) -> int:
    """Train rows whose outcome window shares a candle with an eval row's, of any asset."""
    from_here = np.searchsorted(evaluation, train - horizon, side="right")
    to_here = np.searchsorted(evaluation, train + horizon, side="left")
    return int((to_here > from_here).sum())


def _counts(meta: pl.DataFrame, key: pl.Expr) -> dict[str, dict[str, int]]:
    table = meta.group_by(key.alias("key"), "label").len().sort("key", "label")
    counts: dict[str, dict[str, int]] = {}
    for name, label, count in table.iter_rows():
        counts.setdefault(name, {})[label] = count
    return counts
