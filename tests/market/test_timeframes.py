"""Resampling on literal candles, and a state that is seen only once its candle has closed."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import talib

from candletune.market.timeframes import add_timeframe_summary, resample, timeframe_state

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def frame_of(hours: list[int], closes: list[float] | None = None) -> pl.DataFrame:
    dates = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"date": dates, "close": closes or [float(hour) for hour in hours]})


def closes_of(hours: list[int], timeframe: str) -> dict[int, float]:
    rows = resample(frame_of(hours), timeframe, source="1h")
    return {int((closed - START) / timedelta(hours=1)): close for closed, close in rows.iter_rows()}


def test_four_hours_close_with_their_last_candle() -> None:
    assert closes_of(list(range(12)), "4h") == {4: 3.0, 8: 7.0, 12: 11.0}


def test_a_forming_candle_is_not_there() -> None:
    assert closes_of(list(range(11)), "4h") == {4: 3.0, 8: 7.0}


def test_the_grid_is_utc_not_the_first_row() -> None:
    assert closes_of(list(range(2, 10)), "4h") == {4: 3.0, 8: 7.0}


def test_a_missing_last_candle_drops_the_bucket_and_a_missing_inner_one_does_not() -> None:
    assert closes_of([0, 1, 2, 4, 6, 7], "4h") == {8: 7.0}


def test_days_and_weeks() -> None:
    assert closes_of(list(range(48)), "1d") == {24: 23.0, 48: 47.0}
    assert closes_of(list(range(24 * 8)), "1w") == {168: 167.0}


def long_history(hours: int) -> pl.DataFrame:
    return frame_of(list(range(hours)), [100 + (hour * 7 % 31) / 10 + hour / 50 for hour in range(hours)])


def summary_at(frame: pl.DataFrame, *minutes: int, timeframes: tuple[str, ...] = ("4h",)) -> list[str]:
    times = pl.Series([START + timedelta(minutes=m) for m in minutes], dtype=pl.Datetime("us", "UTC"))
    rows = add_timeframe_summary(pl.DataFrame({"decision_time": times}), frame, timeframes, source="1h")
    assert rows.columns == ["decision_time", "timeframe_summary"]
    return rows["timeframe_summary"].to_list()


def test_the_summary_changes_at_the_minute_its_candle_closes() -> None:
    frame = long_history(400)
    before, at, after = summary_at(frame, 200 * 60 - 60, 200 * 60, 200 * 60 + 180)
    assert at == after != before
    closes = frame["close"].to_numpy()[3:200:4]
    rsi, change = talib.RSI(closes, 14)[-1], (closes[-1] / closes[-2] - 1) * 100
    assert at == f"4h bullish RSI {rsi:.0f} ({change:+.1f}%)"


def test_short_histories_and_stale_states_read_na() -> None:
    assert summary_at(long_history(400), 400 * 60, timeframes=("4h", "1d")) == [
        f"{summary_at(long_history(400), 400 * 60)[0]} | 1d N/A"
    ]
    # After the last whole candle nothing closes any more: one candle later its state is too old to show.
    assert summary_at(long_history(400), 403 * 60, 404 * 60)[1] == "4h N/A"
    assert summary_at(long_history(400), 403 * 60)[0] != "4h N/A"
    assert summary_at(long_history(20), 19 * 60) == ["4h N/A"]
    assert summary_at(long_history(20), 19 * 60, timeframes=()) == ["N/A"]


def test_the_state_keeps_its_columns_without_history() -> None:
    state = timeframe_state(long_history(20), "4h", source="1h")
    assert state.is_empty()
    assert state.columns == timeframe_state(long_history(400), "4h", source="1h").columns


@pytest.mark.parametrize(("last", "text"), [(1.0, "+1.0%"), (-1.0, "-1.0%"), (0.0, "+0.0%"), (-0.01, "+0.0%")])
def test_the_change_is_signed_and_never_minus_zero(last: float, text: str) -> None:
    closes = [100.0 if hour % 8 < 4 else 101.0 for hour in range(240)] + [100.0] * 4 + [100.0 + last] * 4
    assert summary_at(frame_of(list(range(248)), closes), 248 * 60)[0].endswith(f"({text})")
