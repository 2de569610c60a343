"""A trader's own stamps: every row is a candle's close, so every row gets its outcome; what cannot be is refused."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from programs import run_program, settings

from candletune.commands.live import signal
from candletune.commands.shadow import shadow
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.evaluation.outcomes import join_outcomes
from candletune.journal import read_frame
from candletune.live.contexts import ContextReader
from candletune.market.simulate import simulate, to_candles

START = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 500
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"ticker": "BTC", "price_usd": 100.0, "rsi": 40}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "data" / "futures").mkdir(parents=True)
    candles = to_candles(simulate((5, 0), HOURS, 0.5), start=START, price=30_000.0, seed=(5, 0))
    candles.write_ipc(tmp_path / "data" / "futures" / "BTC_USDT_USDT-1h-futures.feather", compression="lz4")
    return load_config(None, settings(tmp_path))


def reader_of(config: Config, now: datetime) -> tuple[ContextReader, SilentReporter]:
    reporter = SilentReporter()
    return ContextReader(config, reporter, clock=lambda: now), reporter


def line(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


@pytest.mark.parametrize(
    ("stamp", "closed"),
    [
        ("2025-01-01T12:00:00Z", NOON),
        ("2025-01-01T12:00:00", NOON),
        ("2025-01-01T12:59:59.999999Z", NOON),
        ("2025-01-01T12:03:17+00:00", NOON),
        ("2025-01-01T14:03:17+02:00", NOON),
        ("2025-01-01T11:59:59Z", NOON - timedelta(hours=1)),
    ],
)
def test_a_stamp_is_the_close_of_the_last_candle(stamp: str, closed: datetime, tmp_path: Path) -> None:
    config = load_config(None, settings(tmp_path))
    due = reader_of(config, NOON + timedelta(hours=1))[0].due(line(timestamp=stamp))
    assert due.timestamp == closed
    assert "timestamp" not in due.context
    assert due.given == (None if stamp.startswith("2025-01-01T12:00:00") else datetime.fromisoformat(stamp))


def test_moved_stamps_are_said_once_and_counted(tmp_path: Path) -> None:
    config = load_config(None, settings(tmp_path, "data.context_timeframes=[]", "data.timeframe=4h"))
    reader, reporter = reader_of(config, NOON + timedelta(minutes=31))
    assert reader.due(line()).timestamp == NOON  # no stamp: now
    for minute in (0, 7, 14):
        assert reader.due(line(timestamp=f"2025-01-01T12:{minute:02}:00Z")).timestamp == NOON
    assert len(reporter.warnings) == 1
    assert "rows are stamped with the close of the last 4h candle" in reporter.warnings[0]
    assert (reader.read, reader.snapped) == (4, 3)
    assert "3 were stamped off the 4h grid" in reader.summary()


def test_a_stamp_that_comes_too_late_to_act_on_is_late(tmp_path: Path) -> None:
    config = load_config(None, settings(tmp_path))
    for minutes, late in ((59, False), (60, True)):
        reader, _ = reader_of(config, NOON + timedelta(minutes=minutes))
        assert reader.due(line(timestamp=(NOON + timedelta(minutes=5)).isoformat())).late is late


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 60_000, "not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"price_usd": 1}', r"context\.ticker"),
        ('{"ticker": "BTC", "price_usd": NaN}', r"context\.price_usd"),
        ('{"ticker": "BTC", "price_usd": true}', r"context\.price_usd"),
        ('{"ticker": "BTC", "price_usd": "2500"}', r"context\.price_usd: expected a positive number, got '2500'"),
        ('{"ticker": "BTC", "price_usd": -5}', r"context\.price_usd: expected a positive number"),
        ('{"ticker": "btc", "price_usd": 5}', r"context\.ticker: expected BTC, got 'btc'; .*data\.pairs"),
        ('{"ticker": "BTC/USDT:USDT", "price_usd": 5}', r"context\.ticker: expected BTC"),
        ('{"ticker": "BTC", "price_usd": 1' + "0" * 400 + "}", r"context\.price_usd"),
        (line(timestamp="soon"), r"context\.timestamp: expected ISO 8601"),
        (line(timestamp="0001-01-01T00:00:00+14:00"), r"context\.timestamp: expected ISO 8601"),
        (line(timestamp="2024-01-22T00:00:00Z"), r"context\.timestamp: .* is in the future, it is 2024-01-21 21:30:00"),
        (line(timestamp="2023-12-01T00:00:00Z"), r"days older than the newest candle \(2024-01-21 20:00:00 UTC\)"),
        (line(timestamp="1970-01-20T00:00:00Z"), r"days older than the newest candle"),
    ],
)
def test_a_wrong_line_names_its_key(text: str, words: str, config: Config) -> None:
    reader, _ = reader_of(config, START + timedelta(hours=HOURS + 1, minutes=30))
    with pytest.raises(InputError, match=words):
        reader.due(text)
    assert reader.read == 0


def test_old_stamps_are_held_against_the_candles_not_against_the_clock(config: Config) -> None:
    """A recorded week is played back years later."""
    reader, _ = reader_of(config, datetime(2030, 1, 1, tzinfo=UTC))
    assert reader.due(line(timestamp="2024-01-10T10:20:00Z")).timestamp == datetime(2024, 1, 10, 10, tzinfo=UTC)


def test_a_week_of_a_traders_own_stamps_gets_every_outcome(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, each of these rows stayed pending for ever."""
    first = START + timedelta(hours=HOURS - 200, minutes=3, seconds=17)
    sent = [line(timestamp=(first + timedelta(hours=n, milliseconds=n)).isoformat(), rsi=n % 90) for n in range(168)]
    answers, said = run_program(shadow, [*settings(tmp_path), "--stdin"], "\n".join(sent), monkeypatch, tmp_path)
    assert [answer["status"] for answer in answers] == ["ok"] * 168
    assert answers[0]["given_timestamp"] == first.isoformat()
    assert "168 contexts; 168 were stamped off the 1h grid" in said.replace("\n", "")
    rows = read_frame(config.live.journal)
    assert rows["timestamp"][0] == first.replace(minute=0, second=0)
    assert join_outcomes(rows, config)["forward_return"].null_count() == 0


def test_a_trader_that_asks_more_often_than_candles_close(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets every answer; a candle has one row. The very same line twice is an error, as ever."""
    first = START + timedelta(hours=HOURS - 20)
    sent = [line(timestamp=(first + timedelta(minutes=15 * n)).isoformat(), rsi=n) for n in range(8)]
    answers, said = run_program(
        shadow, [*settings(tmp_path), "--stdin"], "\n".join([*sent, sent[0], sent[1]]), monkeypatch, tmp_path
    )
    assert [answer["status"] for answer in answers] == ["ok"] * 8 + ["error", "ok"]
    assert [answer.get("logged", True) for answer in answers[:8]] == [True, False, False, False] * 2
    assert read_frame(config.live.journal)["timestamp"].to_list() == [first, first + timedelta(hours=1)]
    assert "8 came in a candle that was logged already" in said.replace("\n", " ").replace("  ", " ")


def test_a_byte_order_mark_before_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ([], ["--serve"]):
        answers, _ = run_program(
            signal, [*settings(tmp_path), *options], "\ufeff" + line() + "\n", monkeypatch, tmp_path
        )
        assert [answer["status"] for answer in answers] == ["ok"]
    answers, _ = run_program(shadow, [*settings(tmp_path), "--stdin"], "\ufeff" + line() + "\n", monkeypatch, tmp_path)
    assert [answer["status"] for answer in answers] == ["ok"]


def simulated(tmp_path: Path) -> list[str]:
    """What the demo's configuration file says of its market, and no candle file anywhere else."""
    return [*settings(tmp_path), "simulate.enabled=true", "simulate.years=0.3", "data.folder=/nowhere"]


def test_the_demos_configuration_works_for_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its market ended years ago, so nothing in it is due by the clock: the last week is played."""
    one, _ = run_program(shadow, [*simulated(tmp_path), "--once"], "", monkeypatch, tmp_path)
    assert [answer["ticker"] for answer in one] == ["BTC"]
    answers, said = run_program(shadow, simulated(tmp_path), "", monkeypatch, tmp_path)
    assert "the candles are simulated" in said
    assert len(answers) == 7 * 24 - 1
    rows = read_frame(tmp_path / "log.jsonl").sort("timestamp")
    assert len(rows) == 7 * 24
    assert rows["timestamp"].diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]
    assert not rows["late"].any()
    candles = pl.read_ipc(next((tmp_path / "run" / "candles" / "futures").iterdir()))
    assert rows["timestamp"][-1] == candles["date"][-1] + timedelta(hours=1)
    again, _ = run_program(shadow, simulated(tmp_path), "", monkeypatch, tmp_path)
    assert again == []


def test_the_demos_configuration_works_for_signal_and_for_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (answer,), _ = run_program(signal, simulated(tmp_path), line(), monkeypatch, tmp_path)
    assert answer["status"] == "ok"
    sent = line(timestamp="2022-04-15T10:20:00Z")
    (answer,), _ = run_program(shadow, [*simulated(tmp_path), "--stdin"], sent, monkeypatch, tmp_path)
    assert (answer["status"], answer["timestamp"]) == ("ok", "2022-04-15T10:00:00+00:00")
