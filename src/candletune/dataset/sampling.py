"""Which decision times become examples: the range, the split, the balance, and the natural sample."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.splits import EVAL, TRAIN, assign_split


def candidates(config: Config, rows: pl.DataFrame) -> tuple[pl.DataFrame, datetime | None]:
    """Rows that may become examples, with `split`, and the time the eval period begins (None: a random split).

    Decisions are kept before `test_start` by the horizon and the embargo, so that no outcome reaches into the test.
    With `labels.shuffle` the labels are permuted among them: a control in which nothing can be learned.

    Raises:
        InputError: nothing is left.
    """
    minutes = timeframe_minutes(config.data.timeframe)
    horizon = timedelta(minutes=minutes * config.labels.horizon)
    embargo = timedelta(minutes=minutes * config.dataset.embargo)
    if config.dataset.test_start is not None:
        rows = rows.filter(pl.col("decision_time") < config.dataset.test_start - horizon - embargo)
    if config.dataset.train_start is not None:
        rows = rows.filter(pl.col("decision_time") >= config.dataset.train_start)
    if rows.is_empty():
        raise InputError(
            f"{config.data.folder}: no labelled candles between dataset.train_start and dataset.test_start; "
            "widen the range"
        )
    if config.labels.shuffle:
        order = np.random.default_rng(config.seed).permutation(len(rows))
        rows = rows.with_columns(rows["label"].gather(order), rows["forward_return"].gather(order))
    return assign_split(rows, config.dataset, horizon=horizon, embargo=embargo, seed=config.seed)


def balance(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Equal counts of each class in each split, spread evenly over assets and months.

    `per_class` examples of each class, `eval_fraction` of them in the eval split; where a split has too few of its
    rarest class the other split fills up, and what is still missing is missing for every class.
    Rows of one class, asset and month are ranked by a random key; taking the lowest ranks first fills every month and
    asset before any gets a second row. Deterministic from the seed.

    Raises:
        InputError: a class has no row at all in the train split.
    """
    key = np.random.default_rng(config.seed).permutation(len(rows)).astype(np.uint32)
    rows = rows.with_columns(_key=pl.Series(key))
    counts = {(split, label): count for split, label, count in rows.group_by("split", "label").len().iter_rows()}
    if none := [label for label in DECISIONS if (TRAIN, label) not in counts]:
        raise InputError(f"dataset: no {', '.join(none)} in the train split; use more candles or a lower threshold")
    least = {split: min(counts.get((split, label), 0) for label in DECISIONS) for split in (TRAIN, EVAL)}
    take = split_counts(config.dataset.per_class, config.dataset.eval_fraction, least[TRAIN], least[EVAL])
    # One part at a time and by row numbers, so that no second copy of all rows is ever held.
    chosen = [_spread(rows, split, label, take[split]) for split in take for label in DECISIONS]
    return rows[pl.concat(chosen)].drop("_key").sort("decision_time", "asset")


def split_counts(per_class: int, fraction: float, train: int, evaluation: int) -> dict[str, int]:
    """Examples of each class in each split, given how many rows the rarest class has there."""
    eval_count = min(round(per_class * fraction), evaluation)
    train_count = min(per_class - eval_count, train)
    return {TRAIN: train_count, EVAL: min(per_class - train_count, evaluation)}


def _spread(rows: pl.DataFrame, split: str, label: str, count: int) -> pl.Series:
    """Row numbers of `count` rows of a class: the lowest ranks within their asset and month first, then by key."""
    where = ((rows["split"] == split) & (rows["label"] == label)).arg_true()
    part = pl.select(
        rows["_key"].gather(where),
        asset=rows["asset"].gather(where),
        month=rows["decision_time"].gather(where).dt.truncate("1mo"),
    ).select("_key", where, rank=pl.col("_key").rank("ordinal").over("asset", "month"))
    # Only the few rows whose rank can be among the lowest are worth sorting.
    low = part.filter(pl.col("rank") <= pl.col("rank").sort().head(count).max())
    return low.sort("rank", "_key")[where.name].head(count)


def natural_sample(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Eval rows drawn without regard to class, so that class shares are those of life."""
    eval_rows = rows.filter(pl.col("split") == EVAL)
    count = min(config.dataset.natural_eval, len(eval_rows))
    picked = np.sort(np.random.default_rng(config.seed + 1).choice(len(eval_rows), count, replace=False))
    sample: pl.DataFrame = eval_rows[picked]
    return sample


def class_shares(labels: pl.Series) -> dict[str, float]:
    """Share of each class; zeros when there is no row."""
    total = max(1, len(labels))
    return {label: int((labels == label).sum()) / total for label in DECISIONS}
