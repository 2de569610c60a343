"""The periods of a walk, on literal calendars."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candletune.config import Config, load_config
from candletune.config_walk import add_span
from candletune.errors import UsageError
from candletune.evaluation.across_periods import stretches
from candletune.experiments.walk.periods import find_periods


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "span", "times", "end"),
    [
        ("2024-01-31", "1mo", 1, "2024-02-29"),
        ("2024-01-31", "1mo", 2, "2024-03-31"),
        ("2024-01-15", "3mo", -1, "2023-10-15"),
        ("2024-02-29", "1y", 1, "2025-02-28"),
        ("2024-12-31", "10d", 1, "2025-01-10"),
        ("2024-12-31", "2w", -1, "2024-12-17"),
    ],
)
def test_spans_follow_the_calendar(start: str, span: str, times: int, end: str) -> None:
    assert add_span(day(start), span, times) == day(end)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two years of hourly times; a walk's plan reads nothing else."""
    times = pl.datetime_range(day("2022-01-01"), day("2023-12-31T23:00"), "1h", eager=True, time_zone="UTC")
    prices = {name: pl.Series([100.0] * len(times)) for name in ("open", "high", "low", "close", "volume")}
    pl.DataFrame({"date": times, **prices}).write_ipc(tmp_path / "BTC_USDT_USDT-1h-futures.feather")
    return tmp_path


def config(history: Path, *settings: str) -> Config:
    return load_config(None, [f"data.folder={history}", 'data.pairs=["BTC/USDT:USDT"]', *settings])


def test_quarters_from_a_third_of_the_history_on(history: Path) -> None:
    """The third ends on 1 September at eight in the morning; periods of months begin with a month."""
    periods = find_periods(config(history))
    assert [f"{period.start:%Y-%m-%d}" for period in periods] == [
        "2022-10-01", "2023-01-01", "2023-04-01", "2023-07-01", "2023-10-01",
    ]  # fmt: skip
    assert periods[-1].end == day("2024-01-01")
    assert all(one.end == other.start for one, other in pairwise(periods))
    assert {period.train_start for period in periods} == {None}


def test_a_rest_of_less_than_half_a_period_joins_the_last_one(history: Path) -> None:
    found = find_periods(config(history, "walk.start=2022-09-01"))
    assert (found[-1].start, found[-1].end) == (day("2023-09-01"), day("2024-01-01"))
    found = find_periods(config(history, "walk.start=2022-08-01"))
    assert (found[-1].start, found[-1].end) == (day("2023-11-01"), day("2024-01-01"))


def test_a_window_slides_and_never_begins_before_the_configured_training(history: Path) -> None:
    found = find_periods(config(history, "walk.window=6mo", "walk.start=2023-01-01", "dataset.train_start=2022-09-01"))
    assert [period.train_start for period in found] == [
        day("2022-09-01"), day("2022-10-01"), day("2023-01-01"), day("2023-04-01"),
    ]  # fmt: skip


def test_a_window_longer_than_the_calendar_is_a_growing_one(history: Path) -> None:
    found = find_periods(config(history, "walk.window=9999y"))
    assert {period.train_start for period in found} == {datetime.min.replace(tzinfo=UTC)}


def test_month_ends_do_not_wander(history: Path) -> None:
    """A month behind 31 January is 28 February, and the one behind it 31 March: counted from the start."""
    found = find_periods(config(history, "walk.every=1mo", "walk.start=2023-01-31", "walk.end=2023-06-01"))
    assert [f"{period.start:%m-%d}" for period in found] == ["01-31", "02-28", "03-31", "04-30"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (("walk.every=2y",), "walk.every"),
        (("walk.every=1d", "walk.start=2021-01-01"), "walk.start"),
        (("walk.start=2023-06-01", "walk.end=2023-05-01"), "walk.every"),
        (("walk.every=0mo",), "walk.every"),
        (("walk.every=quarterly",), "walk.every"),
        (("walk.every=9999y",), "walk.every"),
        (("walk.every=9999d",), "walk.every"),
        (("walk.window=shrinking",), "walk.window"),
    ],
)
def test_what_gives_no_walk_is_refused(history: Path, settings: tuple[str, ...], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        find_periods(config(history, *settings))


def test_periods_of_a_month_are_independent_stretches_and_shorter_ones_go_together() -> None:
    days = np.arange(0.0, 120.0, 10.0, dtype=np.float64) * 86_400
    quarters = [edge * 86_400 for edge in (0.0, 60.0, 120.0)]
    assert stretches(days, quarters).tolist() == [0] * 6 + [1] * 6
    fortnights = [edge * 86_400 for edge in (0.0, 14.0, 28.0, 42.0, 56.0, 70.0, 84.0, 98.0, 120.0)]
    assert stretches(days, fortnights).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_period_without_a_known_outcome_leaves_no_hole_in_the_stretches() -> None:
    edges = [edge * 86_400.0 for edge in (0, 30, 60, 90)]
    assert stretches(np.array([1.0, 61.0, 62.0]) * 86_400, edges).tolist() == [0, 1, 1]
