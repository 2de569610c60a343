"""The test period: the newest candles, kept out of training for the replay."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from candletune.config import Config
from candletune.errors import InputError
from candletune.fields.columns import WARM_UP
from candletune.market.candles import find_candle_file, open_times
from candletune.splits import default_test_start, purge_start

_DAYS_A_MONTH = 365.25 / 12


@dataclass(frozen=True, slots=True)
class TestPeriod:
    """Which decisions are kept out of training.

    Attributes:
        first: the first candle's open.
        start: decisions at or after this time are kept out.
        end: the last candle's close.
        share: share of all candles of all pairs that close at or after `start`.
        by_default: `dataset.test_start` is not set.
    """

    __test__ = False
    """pytest takes a class of this name for a test."""

    first: datetime
    start: datetime
    end: datetime
    share: float
    by_default: bool

    def describe(self) -> str:
        """One line for a person."""
        length = self.end - self.start
        months, days = round(length.days / _DAYS_A_MONTH), length.days
        words = f"{months} months" if months > 1 else f"{days} days" if days > 1 else f"{length // _HOUR} hours"
        hint = " (set dataset.test_start to choose another)" if self.by_default else ""
        return f"kept out for the replay: from {_when(self.start)} on, {words}, {self.share:.0%} of the candles{hint}"


_HOUR = timedelta(hours=1)


def find_test_period(config: Config) -> TestPeriod:
    """The configured or default test period, held against the candles; reads their times alone.

    Raises:
        InputError: a candle file is missing or broken, nothing lies in the test period, or nothing before it is left to
            train on.
    """
    first, last, total = None, None, 0
    for closes in _close_times(config):
        opened, closed = closes[0] - config.candle, closes[-1]
        first = opened if first is None else min(first, opened)
        last = closed if last is None else max(last, closed)
        total += len(closes)
    assert first is not None and last is not None  # noqa: S101
    configured = config.dataset.test_start
    start = configured or default_test_start(first, last)
    _check(config, start, first, last)
    held_out = sum(int((closes >= start).sum()) for closes in _close_times(config))
    return TestPeriod(first, start, last, held_out / total, by_default=configured is None)


def _close_times(config: Config) -> Iterator[pl.Series]:
    """One pair after the other, so that only one pair's times are in memory."""
    for pair in config.data.pairs:
        path = find_candle_file(config.data.folder, pair, config.data.timeframe)
        yield open_times(path, config.data.timeframe) + config.candle


def _check(config: Config, start: datetime, first: datetime, last: datetime) -> None:
    if start >= last:
        raise InputError(
            f"dataset.test_start: {_when(start)} leaves nothing to replay, since the candles in {config.data.folder} "
            f"end at {_when(last)}; set an earlier time, or leave it out to keep the last 12 months"
        )
    earliest = first + config.candle * (WARM_UP + 1)
    end = purge_start(start, config.horizon, config.candle * config.dataset.embargo)
    if earliest >= end and config.dataset.test_start is None:
        raise InputError(
            f"{config.data.folder}: no training examples in candles from {_when(first)} to {_when(last)}, since the "
            f"first {WARM_UP} are warm-up and the last third is kept out for the replay; give longer histories "
            "(months, not days)"
        )
    if earliest >= end:
        raise InputError(
            f"dataset.test_start: {_when(start)} leaves no training examples, since the candles in "
            f"{config.data.folder} begin at {_when(first)} and the first {WARM_UP} are warm-up; set a later time, or "
            "give older candles"
        )
    if config.dataset.train_start is not None and config.dataset.train_start >= end:
        raise InputError(
            f"dataset.train_start: {_when(config.dataset.train_start)} leaves no training examples before "
            f"{_when(end)}, where the test period's purge begins; set an earlier time"
        )


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d}" if time.hour == time.minute == 0 else f"{time:%Y-%m-%d %H:%M}"
