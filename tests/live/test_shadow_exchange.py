"""The shadow loop over an exchange: each closed candle is fetched, answered and logged once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from fakes import FakeEngine

import candletune.live.signal as signal_module
import candletune.live.watch as watch_module
import candletune.market.fetch_candles as fetch_module
from candletune.commands.shadow import shadow
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.journal import Journal, read_frame
from candletune.live.shadow import ShadowLoop
from candletune.live.signal import Trader
from candletune.live.watch import watch
from candletune.market.simulate import simulate, to_candles

START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY = 300
PAIRS = {"BTC/USDT:USDT": 30_000.0, "ETH/USDT:USDT": 2_000.0}


class FakeExchange:
    """What the loop uses of a ccxt client, with candles up to `now`; the one still forming comes along, as in life."""

    id = "fake"
    timeframes = {"1h": "1h"}  # noqa: RUF012

    def __init__(self) -> None:
        self.now = START + timedelta(hours=HISTORY, seconds=30)
        self.fault: Callable[[], None] = lambda: None
        self.asked = 0
        self.rows: dict[str, list[list[float]]] = {}
        for index, (pair, price) in enumerate(PAIRS.items()):
            candles = to_candles(simulate((5, index), 400, 0.5), start=START, price=price, seed=(5, index))
            times = candles["date"].dt.timestamp("ms").to_list()
            values = candles.select("open", "high", "low", "close", "volume").rows()
            self.rows[pair] = [[time, *row] for time, row in zip(times, values, strict=True)]

    def load_markets(self) -> dict[str, Any]:
        return dict.fromkeys(PAIRS)

    def fetch_ohlcv(self, pair: str, timeframe: str, since: int, limit: int) -> list[list[float]]:
        assert timeframe == "1h"
        self.asked += 1
        self.fault()
        known = [row for row in self.rows[pair] if since <= row[0] <= self.now.timestamp() * 1000][:limit]
        if known and self.now.timestamp() * 1000 - known[-1][0] < 3_600_000:  # still forming: other prices than later
            time, open_, *_ = known[-1]
            known[-1] = [time, open_, open_, open_, open_, 1.0]
        return known


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    pytest.importorskip("ccxt")
    exchange = FakeExchange()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return exchange.now

    monkeypatch.setattr(fetch_module, "datetime", Clock)
    monkeypatch.setattr(watch_module, "datetime", Clock)
    monkeypatch.setattr(fetch_module, "FIRST_DAY", START)
    monkeypatch.setattr(fetch_module, "open_exchange", lambda _: exchange)
    return exchange


def settings(tmp_path: Path) -> list[str]:
    return [
        f"run.folder={tmp_path / 'run'}",
        f"data.folder={tmp_path / 'data'}",
        f"data.pairs={json.dumps(list(PAIRS))}",
        'data.context_timeframes=["4h"]',
        f"live.state={tmp_path / 'active.json'}",
        f"live.journal={tmp_path / 'log.jsonl'}",
    ]


def test_every_candle_once_though_the_exchange_fails(exchange: FakeExchange, tmp_path: Path) -> None:
    from candletune.commands.shadow import _fetcher

    config = load_config(None, settings(tmp_path))
    reporter = SilentReporter()

    def missing() -> Any:
        raise InputError("no candidate")

    loop = ShadowLoop(
        Trader(config, engine=FakeEngine()),
        Journal(config.live.journal),
        candidate=missing,
        base_sha256="0" * 64,
        emit=lambda _: None,
        reporter=reporter,
    )

    def away() -> None:
        import ccxt

        raise ccxt.BadRequest("maintenance")

    def later(_: float) -> None:
        exchange.now += timedelta(minutes=30)
        away_now = exchange.now.minute == 0 and exchange.now.hour % 5 == 0
        exchange.fault = away if away_now else lambda: None

    end = exchange.now + timedelta(hours=24)
    watch(
        config,
        loop,
        fetch=_fetcher(config, "fake"),
        clock=lambda: exchange.now,
        stop=lambda: exchange.now >= end,
        pause=later,
    )
    rows = read_frame(config.live.journal)
    for ticker, pair in (("BTC", "BTC/USDT:USDT"), ("ETH", "ETH/USDT:USDT")):
        mine = rows.filter(pl.col("ticker") == ticker)
        expected = [START + timedelta(hours=HISTORY + n) for n in range(25)]
        assert mine["timestamp"].to_list() == expected
        closes = {row[0]: row[4] for row in exchange.rows[pair]}
        opened = [(time - timedelta(hours=1)).timestamp() * 1000 for time in expected]
        assert mine["price"].to_list() == [closes[time] for time in opened], "an unfinished candle was answered"
    assert exchange.asked > 48


def test_the_program_fetches_and_answers(
    exchange: FakeExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`candletune shadow --exchange fake --once` from empty folders."""
    (tmp_path / "run" / "gguf").mkdir(parents=True)
    (tmp_path / "run" / "gguf" / "base.gguf").write_bytes(b"base")
    (tmp_path / "candletune.toml").touch()
    monkeypatch.setattr("signal.signal", lambda *_: None)  # SIGTERM stays the test run's own
    monkeypatch.setattr(signal_module, "Trader", lambda config, **more: Trader(config, engine=FakeEngine(), **more))
    options = [part for value in settings(tmp_path) for part in ("--set", value)]
    command = ["--config", str(tmp_path / "candletune.toml"), *options, "--exchange", "fake", "--once"]
    done = CliRunner().invoke(shadow, command, catch_exceptions=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(answer["ticker"], answer["status"]) for answer in said] == [("BTC", "ok"), ("ETH", "ok")]
    assert {answer["timestamp"] for answer in said} == {(START + timedelta(hours=HISTORY)).isoformat()}
    assert len(read_frame(tmp_path / "log.jsonl")) == 2
    assert len(list((tmp_path / "data" / "futures").iterdir())) == 2
