"""Labels on literal closes: the strict edges, the end of the file, a gap in the window, and the two options."""

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candletune.config import LabelsConfig
from candletune.labels import forward_returns, label_candles

START = datetime(2024, 1, 1, tzinfo=UTC)


def frame_of(closes: list[float], hours: list[int] | None = None) -> pl.DataFrame:
    at = list(range(len(closes))) if hours is None else hours
    dates = pl.Series([START + timedelta(hours=hour) for hour in at], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"date": dates, "close": closes})


def labels_of(closes: list[float], hours: list[int] | None = None, **settings: Any) -> list[str | None]:
    config = LabelsConfig.model_validate({"horizon": 2, **settings})
    return label_candles(frame_of(closes, hours), config, 60)["label"].to_list()


@pytest.mark.parametrize(
    ("now", "then", "label"),
    [
        (100.0, 102.0, "HOLD"),  # exactly 2 %, where floating point says 0.020000000000000018
        (100.0, 98.0, "HOLD"),
        (100.0, 102.0001, "BUY"),
        (100.0, 97.9999, "SELL"),
        (50.0, 51.0, "HOLD"),
        (0.3, 0.306, "HOLD"),
        (0.7, 0.714, "HOLD"),
        (43210.5, 44074.71, "HOLD"),
        (43210.5, 44074.72, "BUY"),
        (43210.5, 42346.29, "HOLD"),
        (43210.5, 42346.28, "SELL"),
        (100.0, 100.0, "HOLD"),
    ],
)
def test_two_percent_is_not_more_than_two_percent(now: float, then: float, label: str) -> None:
    assert labels_of([now, now, then])[0] == label


def test_a_small_table_row_by_row() -> None:
    frame = label_candles(frame_of([100.0, 101.0, 103.0, 100.0, 90.0]), LabelsConfig(horizon=2), 60)
    assert frame.columns == ["decision_time", "forward_return", "label"]
    assert frame["decision_time"].to_list() == [START + timedelta(hours=hour) for hour in range(1, 6)]
    assert frame["label"].to_list() == ["BUY", "HOLD", "SELL", None, None]
    expected = [0.03, round(100 / 101 - 1, 12), round(90 / 103 - 1, 12), None, None]
    assert frame["forward_return"].to_list() == expected


def test_the_last_twelve_rows_have_no_label() -> None:
    labels = label_candles(frame_of([100.0] * 40), LabelsConfig(), 60)
    assert labels["label"].to_list() == ["HOLD"] * 28 + [None] * 12
    assert labels["forward_return"].null_count() == 12
    assert label_candles(frame_of([100.0] * 12), LabelsConfig(), 60)["label"].null_count() == 12


def test_a_gap_inside_the_window_leaves_no_label() -> None:
    # Hour 4 is missing: with a horizon of 2 the windows of hours 2 and 3 cross or end in the gap.
    assert labels_of([100.0] * 7, [0, 1, 2, 3, 5, 6, 7]) == ["HOLD", "HOLD", None, None, "HOLD", None, None]


def test_the_candle_length_counts() -> None:
    frame = forward_returns(frame_of([100.0, 110.0, 121.0]), 1, 60)
    assert frame["forward_return"].to_list() == [0.1, 0.1, None]
    assert forward_returns(frame_of([100.0, 110.0, 121.0]), 1, 240)["forward_return"].null_count() == 3


@settings(max_examples=60, deadline=None)
@given(
    closes=st.lists(st.integers(9_700, 10_300), min_size=4, max_size=40),
    missing=st.sets(st.integers(0, 39), max_size=3),
    horizon=st.integers(1, 5),
)
def test_labels_agree_with_exact_fractions(closes: list[int], missing: set[int], horizon: int) -> None:
    """Prices in cents, so that the exact 2 % happens; compared in rational numbers, which do not round."""
    known = {hour: cents for hour, cents in enumerate(closes) if hour not in missing}
    if not known:
        return
    expected: list[str | None] = []
    for hour in known:
        window = [known.get(hour + step) for step in range(horizon + 1)]
        end = window[-1]
        if end is None or None in window:
            expected.append(None)
            continue
        change = Fraction(end, known[hour]) - 1
        expected.append("BUY" if change > Fraction(1, 50) else "SELL" if change < Fraction(-1, 50) else "HOLD")
    assert labels_of([cents / 100 for cents in known.values()], list(known), horizon=horizon) == expected


def test_a_volatility_threshold_by_hand() -> None:
    # Returns +1 %, -1 % in turn: sample deviation of 4 of them, times sqrt(2) for two candles ahead.
    closes = [100.0, 101.0, 99.99, 100.9899, 99.980001]
    changes = [b / a - 1 for a, b in pairwise(closes)]
    mean = sum(changes) / 4
    barrier = math.sqrt(sum((c - mean) ** 2 for c in changes) / 3) * math.sqrt(2)
    assert barrier == pytest.approx(0.016330, abs=1e-6)
    method: dict[str, Any] = {"method": "volatility", "volatility_window": 4}
    for move, label in ((0.0164, "BUY"), (0.0162, "HOLD"), (-0.0164, "SELL"), (-0.0162, "HOLD")):
        after = [99.980001, 99.980001 * (1 + move)]
        # The first four rows have no estimate yet, the last two no window.
        assert labels_of(closes + after, **method) == [None, None, None, None, label, None, None]
    wide = labels_of([*closes, 99.980001, 99.980001 * 1.0164], **method, volatility_factor=2.0)
    assert wide[4] == "HOLD"


def test_the_triple_barrier_takes_the_first_touch() -> None:
    closes = [100.0, 101.0, 99.99, 100.9899, 99.980001]
    now = closes[-1]
    options: dict[str, Any] = {
        "method": "triple_barrier",
        "volatility_window": 4,
        "horizon": 3,
        "volatility_factor": 1.0,
    }
    # Three candles ahead: the barrier is 1.1547 % * sqrt(3) = 2 %.
    for moves, label in (
        ((0.03, -0.05, 0.0), "BUY"),
        ((-0.03, 0.05, 0.0), "SELL"),
        ((0.01, -0.01, 0.03), "BUY"),
        ((0.01, -0.01, 0.019), "HOLD"),
    ):
        path = closes + [now * (1 + move) for move in moves]
        assert labels_of(path, **options) == [None, None, None, None, label, None, None, None]
    # The fixed rule looks at the end alone.
    assert labels_of([*closes, now * 1.03, now * 0.95, now], horizon=3)[4] == "HOLD"


def test_the_triple_barrier_needs_a_whole_window() -> None:
    closes = [100.0, 101.0, 99.99, 100.9899, 99.980001, 110.0, 110.0, 110.0]
    options: dict[str, Any] = {"method": "triple_barrier", "volatility_window": 4, "horizon": 3}
    assert labels_of(closes, [0, 1, 2, 3, 4, 5, 6, 8], **options)[4] is None
    assert labels_of([100.0], **options) == [None]
