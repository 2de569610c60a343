"""Indicators against values worked out by hand, and against plain recurrences that never saw TA-Lib."""

import math
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from candletune.fields.bands import bollinger_words
from candletune.fields.columns import WARM_UP, add_indicators
from candletune.fields.registry import INDICATORS

START = datetime(2024, 1, 1, tzinfo=UTC)


def frame_of(closes: list[float], hours: list[int] | None = None) -> pl.DataFrame:
    at = list(range(len(closes))) if hours is None else hours
    dates = pl.Series([START + timedelta(hours=hour) for hour in at], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"date": dates, "close": closes})


def rows_of(closes: list[float]) -> list[dict[str, float]]:
    return add_indicators(frame_of(closes), day=24).to_dicts()


def test_a_step_after_a_flat_history_by_hand() -> None:
    """160 closes of 100, then 110, then 105."""
    rows = rows_of([100.0] * 160 + [110.0, 105.0])
    up, down = rows[160], rows[161]
    # EMA: alpha 2/10 and 2/22.
    assert up["ema_fast"] == pytest.approx(102.0, abs=1e-9)
    assert up["ema_slow"] == pytest.approx(100 + 10 / 11, abs=1e-9)
    assert down["ema_fast"] == pytest.approx(102.6, abs=1e-9)
    assert up["ema_gap_pct"] == pytest.approx((102 / (1110 / 11) - 1) * 100, abs=1e-9)
    assert up["ema_bullish"] is True
    # RSI: average gain 10/14, no loss; then gain 10/14 * 13/14 against loss 5/14: 130 / (130 + 70).
    assert up["rsi"] == pytest.approx(100.0)
    assert down["rsi"] == pytest.approx(65.0, abs=1e-9)
    # MACD: 10 * (2/13 - 2/27) = 280/351, of which the signal line takes a fifth.
    assert up["macd_hist"] == pytest.approx(224 / 351, abs=1e-9)
    # Bollinger: mean 100.5, population deviation sqrt(0.05 * 0.95 * 100) = sqrt(4.75).
    assert up["bb_percent"] == pytest.approx(0.5 + 9.5 / (4 * math.sqrt(4.75)), abs=1e-9)
    assert up["change_24h"] == pytest.approx(10.0)
    assert down["change_24h"] == pytest.approx(5.0)


def test_a_market_that_stands_still_is_neutral() -> None:
    last = rows_of([100.0] * 200)[-1]
    assert (last["rsi"], last["bb_percent"], last["macd_hist"], last["change_24h"]) == (50.0, 0.5, 0.0, 0.0)
    assert last["ema_bullish"] is False


def test_a_market_that_only_falls_is_not_taken_for_a_still_one() -> None:
    assert rows_of([300.0 - i for i in range(200)])[-1]["rsi"] == 0.0


def test_the_warm_up_is_null_and_ends_where_it_says() -> None:
    rows = add_indicators(frame_of([100.0 + i % 7 for i in range(WARM_UP + 3)]), day=24)
    for name in INDICATORS:
        assert rows[name].null_count() == WARM_UP
        assert rows[name][:WARM_UP].null_count() == WARM_UP


def test_no_24h_change_across_a_gap() -> None:
    hours = [*range(180), *range(182, 240)]
    rows = add_indicators(frame_of([100.0 + h for h in hours], hours), day=24)
    known = dict(zip(hours, rows["change_24h"].to_list(), strict=True))
    assert known[179] == pytest.approx((279 / 255 - 1) * 100)
    # 24 rows back from hour 182 is hour 156: 26 hours, not a day.
    assert all(known[hour] is None for hour in range(182, 206))
    assert known[206] == pytest.approx((306 / 282 - 1) * 100)


def ema(values: list[float], period: int) -> list[float]:
    """TA-Lib's convention: seeded with the mean of the first `period` values."""
    out = [sum(values[:period]) / period]
    for value in values[period:]:
        out.append(out[-1] + 2 / (period + 1) * (value - out[-1]))
    return out


def test_a_random_walk_agrees_with_plain_recurrences() -> None:
    rng = random.Random(5)  # noqa: S311
    closes = [100.0]
    for _ in range(600):
        closes.append(closes[-1] * math.exp(rng.gauss(0, 0.01)))
    last = rows_of(closes)[-1]
    changes = [b - a for a, b in pairwise(closes)]
    gain = sum(max(c, 0) for c in changes[:14]) / 14
    loss = sum(max(-c, 0) for c in changes[:14]) / 14
    for change in changes[14:]:
        gain, loss = (gain * 13 + max(change, 0)) / 14, (loss * 13 + max(-change, 0)) / 14
    assert last["rsi"] == pytest.approx(100 - 100 / (1 + gain / loss), abs=1e-9)
    fast, slow = ema(closes, 9), ema(closes, 21)
    assert last["ema_gap_pct"] == pytest.approx((fast[-1] / slow[-1] - 1) * 100, abs=1e-9)
    # Appel's MACD from its own seeds; by now nothing of the seed is left.
    macd = [a - b for a, b in zip(ema(closes, 12)[14:], ema(closes, 26), strict=True)]
    assert last["macd_hist"] == pytest.approx(macd[-1] - ema(macd, 9)[-1], abs=1e-9)
    window = closes[-20:]
    mean = sum(window) / 20
    deviation = math.sqrt(sum((c - mean) ** 2 for c in window) / 20)
    assert last["bb_percent"] == pytest.approx((closes[-1] - mean + 2 * deviation) / (4 * deviation), abs=1e-9)


@pytest.mark.parametrize(
    ("percent", "words"),
    [
        (1.01, "above upper band"),
        (1.0, "near upper band"),
        (0.8, "near upper band"),
        (0.79, "inside bands"),
        (0.21, "inside bands"),
        (0.2, "near lower band"),
        (0.0, "near lower band"),
        (-0.01, "below lower band"),
        (None, None),
    ],
)
def test_bollinger_words(percent: float | None, words: str | None) -> None:
    frame = pl.DataFrame({"p": [percent]}, schema={"p": pl.Float64})
    assert frame.select(bollinger_words(pl.col("p"))).item() == words
