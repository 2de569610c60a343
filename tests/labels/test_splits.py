"""The chronological split on a literal table, and the random one that leaks."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from candletune.config import DatasetConfig
from candletune.splits import assign_split, eval_boundary

START = datetime(2024, 1, 1, tzinfo=UTC)


def rows_of(hours: list[int]) -> pl.DataFrame:
    times = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"decision_time": times})


def split(hours: list[int], **options: object) -> tuple[list[str | None], datetime | None]:
    config = DatasetConfig.model_validate({"eval_fraction": 0.25, **options})
    rows, boundary = assign_split(
        rows_of(hours), config, horizon=timedelta(hours=3), embargo=timedelta(hours=2), seed=1
    )
    return rows["split"].to_list(), boundary


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


def test_a_random_split_has_no_boundary_and_no_purge() -> None:
    splits, boundary = split(list(range(40)), split="random")
    assert boundary is None
    assert (splits.count("train"), splits.count("eval")) == (30, 10)
    assert splits != sorted(splits, key=str)


def test_the_boundary_of_a_single_row() -> None:
    assert eval_boundary(rows_of([7])["decision_time"], 0.1) == START + timedelta(hours=7)


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
    config = DatasetConfig(eval_fraction=fraction)
    wait = timedelta(hours=horizon), timedelta(hours=embargo)
    rows, _ = assign_split(rows_of(hours), config, horizon=wait[0], embargo=wait[1], seed=1)
    train, evaluation = (rows.filter(split=name)["decision_time"].to_list() for name in ("train", "eval"))
    assert evaluation
    if train:
        assert max(train) + wait[0] + wait[1] < min(evaluation)
