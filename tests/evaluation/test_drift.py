"""The statistics of the drift monitor: the limits say what they claim, and a drop is noticed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from candletune.evaluation.drift import (
    LEAST_ALLOWED,
    Outside,
    Series,
    alarm_limit,
    follow,
    level_of,
    outside_limit,
    series_of,
)
from candletune.evaluation.times import Panel

START = datetime(2025, 1, 1, tzinfo=UTC)
DROP = 0.3


def daily(means: np.ndarray, rng: np.random.Generator) -> Series:
    """Independent days of ten rows each, with a deviation of one a row."""
    days = len(means)
    dates = tuple((START + timedelta(days=day)).date() for day in range(days))
    sums = 10 * means + rng.normal(size=days) * np.sqrt(10)
    return Series(sums, np.full(days, 10.0), np.arange(days), dates, 0, DROP, np.zeros(days))


def test_false_alarms_come_as_often_as_the_limit_says() -> None:
    """A year each, the level known from a year of its own; a tenth is asked for, so that 400 streams can tell."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(400):
        level = level_of(daily(np.full(365, 0.2), rng))
        assert level is not None
        alarms += follow(daily(np.full(365, 0.2), rng), level, alarm_limit(level, 0.10)).alarm is not None
    assert 0.06 <= alarms / 400 <= 0.15


def test_a_drop_is_noticed_whenever_it_begins() -> None:
    rng = np.random.default_rng(2)
    delays = {0: [], 200: []}  # type: dict[int, list[int]]
    for begins, found in delays.items():
        for _ in range(60):
            level = level_of(daily(np.full(365, 0.2), rng))
            assert level is not None
            means = np.where(np.arange(365) < begins, 0.2, 0.2 - DROP)
            standing = follow(daily(means, rng), level, alarm_limit(level, 0.015))
            assert standing.alarm is not None
            if standing.alarm >= begins:
                found.append(standing.alarm - begins)
                assert abs(standing.began - begins) < 30, "it says when the drop began"
    assert max(np.median(found) for found in delays.values()) < 20, "what was good before is no cushion"


def test_nothing_is_certified_by_two_months_or_by_silence() -> None:
    rng = np.random.default_rng(3)
    assert level_of(daily(np.full(59, 0.2), rng)) is None
    silent = Series(
        np.zeros(100), np.zeros(100), np.arange(100), daily(np.zeros(100), rng).dates, 0, DROP, np.zeros(100)
    )
    assert level_of(silent) is None


def test_what_the_market_does_to_every_model_is_no_evidence() -> None:
    """Nine tenths of the variance are the market's: a spell of it is no alarm, and a drop is noticed sooner."""
    rng = np.random.default_rng(6)

    def weather(means: np.ndarray, usual: float) -> Series:
        plain, market = daily(means, rng), usual + 3 * rng.normal(size=len(means)) * np.sqrt(10)
        return replace(plain, sums=plain.sums + market, market=market)

    year, after = np.full(365, 0.2), np.full(120, 0.2 - DROP)
    judged = weather(year, 0.0)
    level, blind = level_of(judged), level_of(replace(judged, market=np.zeros(365)))
    assert level is not None and blind is not None
    assert level.slope == pytest.approx(1, abs=0.05) and level.deviation < blind.deviation / 2
    spell = weather(year, -3.0)
    assert follow(spell, level, alarm_limit(level, 0.015)).alarm is None
    assert follow(spell, blind, alarm_limit(blind, 0.015)).alarm is not None
    delays: list[list[int]] = [[], []]
    for _ in range(30):
        lost = weather(after, 0.0)
        for found, known in zip(delays, (level, blind), strict=True):
            found.append(follow(lost, known, alarm_limit(known, 0.015)).alarm or len(after))
    assert np.median(delays[0]) < 20 < 2 * np.median(delays[0]) < np.median(delays[1])


def test_calls_that_are_held_are_expected_to_lose_when_the_market_turns() -> None:
    """Rows that act count, by the way their outcomes go against those just before; what the model says does not."""
    steady = series_of(panel([1] * 6, [0.05] * 6), "active", 0.01)["direction"]
    turning = series_of(panel([-1] * 6, [0.05, -0.05] * 3), "active", 0.01)["direction"]
    silent = series_of(panel([0] * 6, [0.05] * 6), "active", 0.01)["direction"]
    assert steady.market.tolist() == [0, 1, 1, 1]
    assert turning.market.tolist() == [0, -1, -1, -1]
    assert silent.market.tolist() == [0, 0, 0, 0]


def panel(calls: list[float], returns: list[float], *, scores: list[float] | None = None) -> Panel:
    stamps = tuple(START + timedelta(hours=12 * hour) for hour in range(len(calls)))
    return Panel(
        np.array(returns)[:, None],
        {"active": np.array(calls)[:, None]},
        np.arange(len(calls)) / 2,
        12.0,
        log_score=None if scores is None else np.array(scores)[:, None],
        stamps=stamps,
    )


def test_a_direction_counts_alike_in_wild_and_calm_hours() -> None:
    """1 % moves: a quarter of it counts in full, HOLD not at all, and the last day waits for its outcomes."""
    found = series_of(panel([1, -1, 0, 1, 1, 1], [0.05, 0.0025, 0.04, 0.001, 0.05, 0.05]), "active", 0.01)
    sums, rows, _ = found["direction"].daily()
    assert sums.tolist() == pytest.approx([0.0, 0.4])
    assert rows.tolist() == [2.0, 1.0]


def test_a_row_without_an_outcome_or_an_answer_counts_nowhere() -> None:
    gap = float("nan")
    found = series_of(panel([1, 1, gap, 1], [0.05, gap, 0.05, 0.05], scores=[0.5, 0.5, 0.5, gap]), "active", 0.01)
    assert found["direction"].daily()[1].tolist() == [1.0]
    assert found["log score"].daily()[0].tolist() == [-0.5], "of the incumbent's side: less is the candidate's gain"


def test_strange_inputs_need_days_and_not_hours() -> None:
    limit = outside_limit(20, 0.005)
    one_day = Outside(LEAST_ALLOWED)
    assert one_day.add(1.0) < limit
    assert all(one_day.add(0.0) < limit for _ in range(365))
    away = Outside(LEAST_ALLOWED)
    days = next(day for day in range(1, 40) if away.add(1.0) >= limit)
    assert 4 <= days <= 10


def test_usual_inputs_raise_no_alarm() -> None:
    """Shares that are on average what is allowed: the most evidence in a year passes the limit once in 1 / chance."""
    rng = np.random.default_rng(4)
    limit = outside_limit(1, 0.05)
    shares = rng.choice([0.0, 1.0], (400, 365), p=[1 - LEAST_ALLOWED, LEAST_ALLOWED])
    alarms = sum(max(map(Outside(LEAST_ALLOWED).add, row)) >= limit for row in shares)
    assert alarms / 400 <= 0.05
