"""Which decision times become examples: the range, the split, the balance, and the natural sample.

Rows are numbered by time, asset and timeframe over all pairs, and a random key belongs to each number. The first pass
over the candles counts the rows of each time, which is enough to tell every row's number; the second draws. Neither
holds more than one pair's rows and those that may still be chosen, so memory grows by 4 bytes a candle: the keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import CandleFile
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.rows import LABELS, labelled_pairs
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.market.candles import Candles
from candletune.splits import EVAL, TRAIN, at_random, chronological, eval_boundary

POOL = 200_000
"""Rows that may still be chosen, held at most before those with too high a rank are dropped (some 40 bytes each)."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first pass counted.

    Attributes:
        times: `decision_time`, ascending and unique, and `rows`: how many candidates there are at that time.
        files: what reading each pair's candles found, by ticker (and timeframe, beyond the shortest).
    """

    times: pl.DataFrame
    files: dict[str, CandleFile]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the second pass drew.

    Attributes:
        chosen: `asset`, `timeframe`, `decision_time`, `forward_return`, `label`, `split` of the examples, by time,
            asset and timeframe.
        natural: the same of eval rows drawn without regard to class.
        cells: `rows` of all candidates by `asset`, `timeframe`, `month`, `split` (null: purged) and `label`.
        boundary: when the eval period begins; None: a random split.
    """

    chosen: pl.DataFrame
    natural: pl.DataFrame
    cells: pl.DataFrame
    boundary: datetime | None


def survey(config: Config, reporter: Reporter) -> Survey:
    """The first pass: read, check and label every pair; count the rows that may become examples.

    Raises:
        InputError: a file is missing or broken, two pairs share a ticker, or nothing is left.
    """
    times = pl.DataFrame(schema={"decision_time": pl.Datetime("us", "UTC"), "rows": pl.UInt32})
    files: dict[str, CandleFile] = {}
    for timeframes, rows in labelled_pairs(config, reporter, "Read candles"):
        for candles in timeframes:
            _say_mended(candles, reporter)
            labelled = rows.filter(pl.col("timeframe") == candles.timeframe).height
            if not labelled:
                count = f"{len(candles.frame)} candles give no labelled row of {candles.timeframe}"
                reporter.warn(f"{candles.path}: {count}; too few, or all gaps")
            name = candles.ticker if candles is timeframes[0] else f"{candles.ticker} {candles.timeframe}"
            files[name] = CandleFile(file=candles.path.name, labelled=labelled, **candles.report)
        mine = _in_range(rows, config).select("decision_time", rows=pl.lit(1, pl.UInt32))
        times = pl.concat([times, mine]).group_by("decision_time").agg(pl.col("rows").sum())
    if not any(entry.labelled for entry in files.values()):
        raise InputError(f"{config.data.folder}: no candles can be labelled; give longer histories (months, not days)")
    if times.is_empty():
        raise InputError(
            f"{config.data.folder}: no labelled candles between dataset.train_start and dataset.test_start; "
            "widen the range"
        )
    return Survey(times.sort("decision_time"), files)


def draw_sample(config: Config, surveyed: Survey, reporter: Reporter) -> Sample:
    """The second pass: equal counts of each class in each split, spread evenly over assets and months.

    `per_class` examples of each class, `eval_fraction` of them in the eval split; where a split has too few of its
    rarest class the other split fills up, and what is still missing is missing for every class.
    Rows of one class, asset and month are ranked by their random key; taking the lowest ranks first fills every month
    and asset before any gets a second row. Deterministic from the seed.
    With `labels.shuffle` the labels are permuted among all rows: a control in which nothing can be learned.

    Raises:
        InputError: a class has no row at all in the train split.
    """
    total = int(surveyed.times["rows"].sum())
    keys = np.arange(total, dtype=np.uint32)
    np.random.default_rng(config.seed).shuffle(keys)
    boundary, split = _split(config, surveyed.times, total)
    natural = pl.Series(_natural_numbers(config, surveyed.times, keys, boundary))
    labels = _labels_in_order(config, surveyed, reporter) if config.labels.shuffle else None
    drawn, natural_rows, cells, waiting = [], [], [], 0
    for rows in _numbered(config, surveyed, reporter):
        keyed = rows.with_columns(pl.Series("key", keys[rows["number"].to_numpy()]))
        if labels is not None:
            numbers, returns = (column[keyed["key"].to_numpy()] for column in labels)
            label = LABELS.categories.gather(numbers).cast(LABELS)
            keyed = keyed.with_columns(label.alias("label"), pl.Series("forward_return", returns))
        keyed = keyed.with_columns(split=split, month=pl.col("decision_time").dt.truncate("1mo"))
        cells.append(keyed.group_by("asset", "timeframe", "month", "split", "label").agg(pl.len().alias("rows")))
        natural_rows.append(keyed.filter(pl.col("number").is_in(natural.implode())))
        rank = pl.col("key").rank("ordinal").over("split", "label", "month")
        drawn.append(keyed.filter(pl.col("split").is_not_null()).with_columns(rank=rank))
        waiting += len(drawn[-1])
        if waiting > POOL:
            drawn = [_lowest(pl.concat(drawn), pl.lit(config.dataset.per_class))]
            waiting = len(drawn[0])
    counted = pl.concat(cells)
    take = _take(config, counted)
    wanted = pl.col("split").cast(pl.String).replace_strict(take, return_dtype=pl.UInt32)
    columns = ("asset", "timeframe", "decision_time", "forward_return", "label", "split")
    chosen, sample = _lowest(pl.concat(drawn), wanted), pl.concat(natural_rows)
    return Sample(chosen.sort("number").select(columns), sample.sort("number").select(columns), counted, boundary)


def split_counts(per_class: int, fraction: float, train: int, evaluation: int) -> dict[str, int]:
    """Examples of each class in each split, given how many rows the rarest class has there."""
    eval_count = min(round(per_class * fraction), evaluation)
    train_count = min(per_class - eval_count, train)
    return {TRAIN: train_count, EVAL: min(per_class - train_count, evaluation)}


def class_shares(rows: dict[str, int]) -> dict[str, float]:
    """Share of each class, given its rows; zeros when there is no row."""
    total = max(1, sum(rows.values()))
    return {label: rows.get(label, 0) / total for label in DECISIONS}


def _in_range(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Decisions are kept before `test_start` by the horizon and the embargo: no outcome reaches into the test."""
    if config.dataset.test_start is not None:
        horizon, embargo = _waits(config)
        rows = rows.filter(pl.col("decision_time") < config.dataset.test_start - horizon - embargo)
    if config.dataset.train_start is not None:
        rows = rows.filter(pl.col("decision_time") >= config.dataset.train_start)
    return rows


def _waits(config: Config) -> tuple[timedelta, timedelta]:
    return config.horizon, config.candle * config.dataset.embargo


def _numbered(config: Config, surveyed: Survey, reporter: Reporter) -> Iterator[pl.DataFrame]:
    """Each pair's candidates again, by ticker, with `number`: their place by time, asset and timeframe."""
    times = surveyed.times["decision_time"].to_physical().to_numpy()
    following = np.cumsum(surveyed.times["rows"].to_numpy(), dtype=np.uint32) - surveyed.times["rows"].to_numpy()
    for _, every in labelled_pairs(config, reporter, "Choose examples"):
        rows = _in_range(every, config)
        where = np.searchsorted(times, rows["decision_time"].to_physical().to_numpy())
        yield rows.with_columns(pl.Series("number", following[where] + _places(where)))
        # Pairs come in the order of their tickers, so the next pair's row of the same time is the next number.
        following += np.bincount(where, minlength=len(following)).astype(np.uint32)


def _places(ascending: NDArray[np.int64]) -> NDArray[np.uint32]:
    """0, 1, ... within each stretch of equal values: a pair's timeframes may decide at the same time."""
    first = np.flatnonzero(np.diff(ascending, prepend=-1))
    lengths = np.diff(first, append=len(ascending))
    return (np.arange(len(ascending)) - np.repeat(first, lengths)).astype(np.uint32)


def _split(config: Config, times: pl.DataFrame, total: int) -> tuple[datetime | None, pl.Expr]:
    if config.dataset.split == "random":
        return None, at_random(pl.col("key"), round(total * config.dataset.eval_fraction))
    boundary = eval_boundary(times, config.dataset.eval_fraction)
    horizon, embargo = _waits(config)
    return boundary, chronological(boundary, horizon=horizon, embargo=embargo)


def _natural_numbers(
    config: Config, times: pl.DataFrame, keys: NDArray[np.uint32], boundary: datetime | None
) -> NDArray[np.uint32]:
    """Numbers of eval rows drawn without regard to class, so that class shares are the natural ones."""
    if boundary is None:
        numbers = np.flatnonzero(keys < round(len(keys) * config.dataset.eval_fraction))
        count = len(numbers)
    else:
        count = int(times.filter(pl.col("decision_time") >= boundary)["rows"].sum())
        numbers = np.arange(len(keys) - count, len(keys))
    size = min(config.dataset.natural_eval, count)
    drawn = np.sort(np.random.default_rng(config.seed + 1).choice(count, size, replace=False))
    return numbers[drawn].astype(np.uint32)


def _labels_in_order(
    config: Config, surveyed: Survey, reporter: Reporter
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels (as places in `DECISIONS`) and returns by row number: shuffling needs them all, 9 bytes a candle."""
    total = int(surveyed.times["rows"].sum())
    labels, returns = np.empty(total, dtype=np.uint8), np.empty(total)
    for rows in _numbered(config, surveyed, reporter):
        labels[rows["number"].to_numpy()] = rows["label"].to_physical().to_numpy()
        returns[rows["number"].to_numpy()] = rows["forward_return"].to_numpy()
    return labels, returns


def _take(config: Config, cells: pl.DataFrame) -> dict[str, int]:
    counts: dict[tuple[Any, ...], int] = {
        (split, label): rows for split, label, rows in cells.group_by("split", "label").agg(pl.col("rows").sum()).rows()
    }
    if none := [label for label in DECISIONS if (TRAIN, label) not in counts]:
        raise InputError(f"dataset: no {', '.join(none)} in the train split; use more candles or a lower threshold")
    least = {split: min(counts.get((split, label), 0) for label in DECISIONS) for split in (TRAIN, EVAL)}
    return split_counts(config.dataset.per_class, config.dataset.eval_fraction, least[TRAIN], least[EVAL])


def _lowest(rows: pl.DataFrame, count: pl.Expr) -> pl.DataFrame:
    """The `count` rows of each split and class with the lowest rank, then key."""
    return rows.sort("rank", "key").filter(pl.int_range(pl.len()).over("split", "label") < count)


def _say_mended(candles: Candles, reporter: Reporter) -> None:
    report = candles.report
    if mended := report["reordered"] + report["duplicates"]:
        reporter.warn(f"{candles.path}: {mended} rows were out of order or doubled; mended in memory")
    if report["gaps"]:
        reporter.say(
            f"{candles.path}: {report['gaps']} gaps ({report['missing_candles']} candles missing); no label crosses one"
        )
