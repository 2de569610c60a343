"""The periods of a walk: what is replayed, and from when on the training before it sees candles."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from candletune.config import Config, WalkConfig
from candletune.config_walk import add_span, whole_months
from candletune.errors import UsageError
from candletune.market.candles import find_candle_file, open_times

LEAST: Final = 2
"""Fewer periods are an ordinary run."""
MOST: Final = 1000
_SHORT: Final = 0.5
"""Share of its length below which the last period joins the one before."""


@dataclass(frozen=True, slots=True)
class Period:
    """One period.

    Attributes:
        number: 0 for the first.
        start, end: decisions in [start, end) are replayed.
        train_start: examples before this are left out; None: the whole history before the period.
    """

    number: int
    start: datetime
    end: datetime
    train_start: datetime | None

    @property
    def name(self) -> str:
        """Its folder's: the day it begins, and the hour where that is no midnight."""
        return f"{self.start:%Y-%m-%d}" if self.start.hour == self.start.minute == 0 else f"{self.start:%Y-%m-%dT%H%M}"


def find_periods(config: Config) -> tuple[Period, ...]:
    """The configured periods, held against the candles; reads their times alone.

    A last period shorter than half of `walk.every` joins the one before.

    Raises:
        UsageError: the candles hold fewer than two periods, or too many.
        InputError: a candle file is missing or broken.
    """
    table = config.walk
    first, last = _history(config)
    start = table.start or _default_start(first, last, table)
    end = min(table.end or last, last)
    if start <= first:
        raise UsageError(
            f"walk.start: {_when(start)} leaves nothing to train on, since the candles in {config.data.folder} begin "
            f"at {_when(first)}; set a later time"
        )
    edges = _edges(start, end, table.every)
    if len(edges) <= LEAST:
        raise UsageError(
            f"walk.every: {table.every} gives {max(0, len(edges) - 1)} of at least {LEAST} periods between "
            f"{_when(start)} and {_when(end)}; choose a shorter one, or move walk.start and walk.end"
        )
    return tuple(
        Period(number, begin, until, _train_start(config, begin))
        for number, (begin, until) in enumerate(pairwise(edges))
    )


def _edges(start: datetime, end: datetime, every: str) -> list[datetime]:
    """Where periods begin, and where the last one ends."""
    edges = [start]
    while (following := add_span(start, every, len(edges))) < end:
        edges.append(following)
        if len(edges) > MOST:
            raise UsageError(
                f"walk.every: {every} gives more than {MOST} periods, each with a training; choose a longer one"
            )
    if start >= end:
        return []
    if len(edges) > 1 and end - edges[-1] < _SHORT * (following - edges[-1]):
        edges.pop()
    return [*edges, end]


def _default_start(first: datetime, last: datetime, table: WalkConfig) -> datetime:
    """A third of the history on, at most a year: a midnight, and a month's where periods are months."""
    start = min(add_span(first, "1y"), first + (last - first) / 3)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight < start:
        midnight += timedelta(days=1)
    if not whole_months(table.every) or midnight.day == 1:
        return midnight
    return add_span(midnight.replace(day=1), "1mo")


def _train_start(config: Config, begin: datetime) -> datetime | None:
    configured = config.dataset.train_start
    if config.walk.window == "growing":
        return configured
    sliding = add_span(begin, config.walk.window, -1)
    return sliding if configured is None else max(sliding, configured)


def _history(config: Config) -> tuple[datetime, datetime]:
    """When the first candle of all pairs opened, and when the last one closed."""
    times = [
        open_times(find_candle_file(config.data.folder, pair, config.data.timeframe), config.data.timeframe)
        for pair in config.data.pairs
    ]
    return min(one[0] for one in times), max(one[-1] for one in times) + config.candle


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d}" if time.hour == time.minute == 0 else f"{time:%Y-%m-%d %H:%M}"
