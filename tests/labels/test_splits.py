"""The chronological split on a literal table, and the random one that leaks."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from candletune.splits import at_random, chronological, default_test_start, eval_boundary

START = datetime(2024, 1, 1, tzinfo=UTC)


def split(
    hours: list[int], fraction: float = 0.25, horizon: int = 3, embargo: int = 2
) -> tuple[list[str | None], datetime]:
    """The split of each hour, in the order given, and the boundary."""
    times = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"decision_time": times})
    boundary = eval_boundary(rows.group_by("decision_time").agg(rows=pl.len()).sort("decision_time"), fraction)
    waits = {"horizon": timedelta(hours=horizon), "embargo": timedelta(hours=embargo)}
    return rows.select(chronological(boundary, **waits)).to_series().to_list(), boundary


def test_purge_and_embargo_hour_by_hour() -> None:
    """Eval begins at hour 15; a decision at hour 10 or later ends, with the embargo, at the boundary or after it."""
    splits, boundary = split(list(range(20)))
    assert boundary == START + timedelta(hours=15)
    assert splits == ["train"] * 10 + [None] * 5 + ["eval"] * 5


def test_two_assets_share_the_boundary_and_order_means_nothing() -> None:
    hours = [hour for hour in range(20) for _ in range(2)]
    splits, boundary = split(hours[::-1])
    assert boundary == START + timedelta(hours=15)
    assert splits[::-1] == ["train"] * 20 + [None] * 10 + ["eval"] * 10


def test_a_random_split_takes_the_lowest_keys_wherever_they_are() -> None:
    keys = pl.DataFrame({"key": [3, 0, 2, 1]})
    assert keys.select(at_random(pl.col("key"), 2)).to_series().to_list() == ["train", "eval", "train", "eval"]


def test_the_boundary_of_a_single_row() -> None:
    assert split([7], 0.1)[1] == START + timedelta(hours=7)


@settings(max_examples=60, deadline=None)
@given(
    hours=st.lists(st.integers(0, 500), min_size=2, max_size=80),
    fraction=st.floats(0.05, 0.6),
    horizon=st.integers(0, 30),
    embargo=st.integers(0, 30),
)
def test_no_train_outcome_reaches_the_eval_period(
    hours: list[int], fraction: float, horizon: int, embargo: int
) -> None:
    splits, boundary = split(hours, fraction, horizon, embargo)
    ordered = sorted(hours)
    wanted = ordered[min(len(ordered) - 1, round(len(ordered) * (1 - fraction)))]
    assert boundary == START + timedelta(hours=wanted)
    train, evaluation = (
        [hour for hour, name in zip(hours, splits, strict=True) if name == wanted_name]
        for wanted_name in ("train", "eval")
    )
    assert evaluation
    if train:
        assert max(train) + horizon + embargo < min(evaluation)


def test_the_default_test_period_by_hand() -> None:
    day = timedelta(days=1)
    cases = {
        # A long history: 12 calendar months.
        (datetime(2019, 9, 8, 17, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)): datetime(2024, 7, 1, tzinfo=UTC),
        # February 29 has no namesake a year before.
        (datetime(2019, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, 5, tzinfo=UTC)): datetime(2023, 2, 28, tzinfo=UTC),
        # 90 days: a third.
        (START, START + 90 * day): START + 60 * day,
        # 91 days: a third would begin at 16:00, so the next midnight.
        (START, START + 91 * day): START + 61 * day,
        # 100 hours: full hours.
        (START, START + timedelta(hours=100)): START + timedelta(hours=67),
    }
    for (first, last), expected in cases.items():
        assert default_test_start(first, last) == expected


@given(
    first=st.datetimes(datetime(2010, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    hours=st.integers(3, 24 * 4000),
)
def test_the_default_test_period_is_never_empty_nor_longer_than_a_third_or_a_year(first: datetime, hours: int) -> None:
    last = first + timedelta(hours=hours)
    start = default_test_start(first, last)
    assert last - (last - first) / 3 <= start <= last
    assert last - start < timedelta(days=368)
