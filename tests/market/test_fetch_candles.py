"""Candle downloads against a local server: retries, resumes, and nothing good on disk is ever lost."""

import json
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import polars as pl
import pytest

from candletune.cli import main
from candletune.config import DataConfig
from candletune.errors import InputError, UsageError
from candletune.market.candles import load_candles
from candletune.market.fetch_candles import Added, fetch_pair, open_exchange
from fetch_server import HOUR, NEEDS_CCXT, PAIR, START, Answer, Exchange, Server, history, in_turn, no_wait


def fetch(server: Server, folder: Path, hours: float = 60, **options: Any) -> Added:
    options.setdefault("wait", no_wait)
    client = open_exchange("binanceusdm", server.url)
    client.enableRateLimit = False
    return fetch_pair(client, DataConfig(folder=folder), PAIR, now=START + timedelta(hours=hours), **options)


def hours_of(path: Path) -> list[int]:
    return [int((date - START) / timedelta(hours=1)) for date in pl.read_ipc(path)["date"]]


def test_candles_come_in_freqtrades_form_and_only_closed_ones(server: Server, tmp_path: Path) -> None:
    Exchange(server, page=25)
    done = fetch(server, tmp_path, 48.5, since=START)
    assert done.path == tmp_path / "futures" / "BTC_USDT_USDT-1h-futures.feather"
    assert (done.added, done.total) == (48, 48)
    # The candle of hour 48 is still forming half an hour later.
    assert (done.first, done.last) == (START, START + timedelta(hours=47))
    frame = pd.read_feather(done.path)
    assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
    assert str(frame["date"].dtype) == "datetime64[ms, UTC]"
    assert frame["close"].tolist() == [101.0 + hour for hour in range(48)]
    candles = load_candles(tmp_path, PAIR, "1h")
    assert candles.report["gaps"] == 0


def test_a_second_run_asks_only_for_what_is_new(server: Server, tmp_path: Path) -> None:
    Exchange(server)
    fetch(server, tmp_path, 20, since=START)
    server.requests.clear()
    done = fetch(server, tmp_path, 40)
    assert (done.added, done.total) == (20, 40)
    asked = [request for request in server.requests if "klines" in request]
    assert [parse_qs(urlsplit(request).query)["startTime"][0] for request in asked] == [
        str(int(START.timestamp() * 1000) + 19 * HOUR)
    ]
    same = fetch(server, tmp_path, 40)
    assert (same.added, same.total) == (0, 40)


def test_an_earlier_start_is_filled_in(server: Server, tmp_path: Path) -> None:
    Exchange(server)
    fetch(server, tmp_path, 40, since=START + timedelta(hours=30))
    assert fetch(server, tmp_path, 40, since=START).added == 30
    path = tmp_path / "futures" / "BTC_USDT_USDT-1h-futures.feather"
    assert hours_of(path) == list(range(40))


def test_before_the_listing_there_is_nothing(server: Server, tmp_path: Path) -> None:
    Exchange(server, first=10)
    assert hours_of(fetch(server, tmp_path, 40, since=START - timedelta(days=300)).path) == list(range(10, 40))
    # Asked again from before the listing: one page, which begins where the file does.
    assert fetch(server, tmp_path, 40, since=START - timedelta(days=300)).added == 0


def test_a_halt_longer_than_a_page_is_stepped_over(server: Server, tmp_path: Path) -> None:
    exchange = Exchange(server, last=3000)
    exchange.hours = [hour for hour in exchange.hours if not 100 <= hour < 1700]
    exchange.answer = lambda path, query: windowed(exchange, path, query)  # type: ignore[method-assign]
    server.answer = exchange.answer
    assert hours_of(fetch(server, tmp_path, 2000, since=START).path) == [*range(100), *range(1700, 2000)]


def windowed(exchange: Exchange, path: str, query: dict[str, str]) -> Answer:
    """An exchange that answers by window: nothing in it, nothing returned."""
    code, body = Exchange.answer(exchange, path, query)
    if path.endswith("exchangeInfo"):
        return code, body
    until = int(query["startTime"]) + 1000 * HOUR
    return code, json.dumps([row for row in json.loads(body) if row[0] < until]).encode()


def test_trouble_on_the_line_is_tried_again(server: Server, tmp_path: Path) -> None:
    waits: list[float] = []
    Exchange(server).faults = [(503, b"{}"), (0, b""), (429, b'{"code": -1003, "msg": "Too many requests"}')]
    assert fetch(server, tmp_path, since=START, wait=waits.append).added == 60
    assert waits == [1.0, 2.0, 4.0]


def test_a_download_that_breaks_off_keeps_whole_pages_and_goes_on(server: Server, tmp_path: Path) -> None:
    exchange = Exchange(server, page=2)
    seen: list[datetime] = []

    def drop_later(reached: datetime) -> None:
        seen.append(reached)
        if len(seen) == 25:
            exchange.faults = [(503, b"{}")] * 5

    with pytest.raises(InputError, match="binanceusdm: no usable answer in 5 attempts"):
        fetch(server, tmp_path, since=START, page_done=drop_later)
    path = tmp_path / "futures" / "BTC_USDT_USDT-1h-futures.feather"
    assert hours_of(path) == list(range(40))
    assert fetch(server, tmp_path).added == 20
    assert hours_of(path) == list(range(60))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({4: "900"}, "high or low inside open and close"),
        ({1: "-5", 2: "-1", 3: "-6", 4: "-2"}, "a price that is not positive"),
        ({4: None}, "a missing price"),
        ({5: "-1"}, "a missing or negative volume"),
    ],
)
def test_broken_candles_change_nothing(
    server: Server, tmp_path: Path, change: dict[int, str | None], words: str
) -> None:
    exchange = Exchange(server)
    path = fetch(server, tmp_path, 30, since=START).path
    before = path.read_bytes()
    rows = [exchange.row(hour) for hour in range(29, 60)]
    for place, value in change.items():
        rows[7][place] = value
    exchange.faults = [(200, json.dumps(rows).encode())]
    with pytest.raises(InputError, match=words):
        fetch(server, tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b'{"code": -1121, "msg": "Invalid symbol."}'), "BadSymbol: binanceusdm"),
        ((200, b"[[1704067200000, 1]]"), "a missing price at 2024-01-01 00:00"),
        ((200, b"<html>busy</html>"), "binanceusdm"),
        ((404, b"{}"), "no usable answer in 5 attempts"),
    ],
)
def test_answers_that_are_no_candles(server: Server, tmp_path: Path, answer: Answer, words: str) -> None:
    Exchange(server).faults = [answer] * 5
    with pytest.raises(InputError, match=words):
        fetch(server, tmp_path, since=START)
    assert list(tmp_path.rglob("*.feather")) == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ([[2, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], "candles out of order"),
        ([[1, 1, 1]], "rows that are no candles"),
        ([[None, 1, 1, 1, 1, 1]], "rows that are no candles"),
        (None, "rows that are no candles"),
    ],
)
def test_pages_that_no_exchange_should_send(tmp_path: Path, page: Any, words: str) -> None:
    pytest.importorskip("ccxt", reason=NEEDS_CCXT)

    class Client:
        id, timeframes = "mixed", None

        def load_markets(self) -> list[str]:
            return [PAIR]

        def fetch_ohlcv(self, *_: Any, **__: Any) -> Any:
            return page

    data, now = DataConfig(folder=tmp_path), START + timedelta(days=1)
    with pytest.raises(InputError, match=rf"mixed: no usable answer in 5 attempts \({words}\)"):
        fetch_pair(Client(), data, PAIR, since=START, now=now, wait=no_wait)


def test_another_market_is_not_mixed_in(server: Server, tmp_path: Path) -> None:
    exchange = Exchange(server)
    path = fetch(server, tmp_path, 30, since=START).path
    before = path.read_bytes()
    exchange.price = 50.0
    with pytest.raises(InputError, match="another market"):
        fetch(server, tmp_path)
    assert path.read_bytes() == before


def test_a_short_history_would_leave_a_hole(server: Server, tmp_path: Path) -> None:
    exchange = Exchange(server)
    fetch(server, tmp_path, 20, since=START)
    exchange.hours = list(range(35, 60))
    with pytest.raises(InputError, match=r"ends at 2024-01-01 19:00, but binanceusdm begins at 2024-01-02 11:00"):
        fetch(server, tmp_path)


def test_a_file_in_another_format_stays_and_is_added_to(server: Server, tmp_path: Path) -> None:
    exchange = Exchange(server)
    rows = [[float(value) for value in exchange.row(hour)[:6]] for hour in range(20)]
    old = tmp_path / "BTC_USDT_USDT-1h-futures.json"
    old.write_text(json.dumps([[int(row[0]), *row[1:]] for row in rows]))
    done = fetch(server, tmp_path, 40)
    assert (done.path, done.added, done.total) == (old.with_suffix(".feather"), 20, 40)
    assert len(json.loads(old.read_text())) == 20
    assert len(load_candles(tmp_path, PAIR, "1h").frame) == 40


def test_a_broken_file_stops_the_download(server: Server, tmp_path: Path) -> None:
    Exchange(server)
    path = tmp_path / "BTC_USDT_USDT-1h-futures.feather"
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a readable feather candle file"):
        fetch(server, tmp_path)
    assert path.read_bytes() == b"half a file"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pair": "BTC/USDC:USDC"}, "binanceusdm: has no BTC/USDC:USDC; did you mean BTC/USDT:USDT"),
        ({"timeframe": "7h"}, "binanceusdm: has no 7h candles; set data.timeframe to one of 1s, 1m"),
        ({"since": START + timedelta(days=30)}, "no candles of BTC/USDT:USDT 1h since 2024-01-31; check --since"),
    ],
)
def test_what_the_exchange_does_not_have(server: Server, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    Exchange(server)
    client = open_exchange("binanceusdm", server.url)
    data = DataConfig(folder=tmp_path, timeframe=settings.get("timeframe", "1h"))
    now = START + timedelta(days=60)
    with pytest.raises(InputError, match=words):
        fetch_pair(client, data, settings.get("pair", PAIR), since=settings.get("since"), now=now, wait=no_wait)


def test_exchanges_that_do_not_exist() -> None:
    ccxt = pytest.importorskip("ccxt", reason=NEEDS_CCXT)
    with pytest.raises(UsageError, match=r"--exchange binanceusd: unknown to ccxt; did you mean binanceus"):
        open_exchange("binanceusd")
    with pytest.raises(UsageError, match="--exchange qqqqqqqq: unknown to ccxt; see ccxt's list"):
        open_exchange("qqqqqqqq")
    with pytest.raises(UsageError, match="expected an http or https address"):
        open_exchange("binance", "ftp://x")
    without = next(name for name in ccxt.exchanges if not getattr(ccxt, name)().has.get("fetchOHLCV"))
    with pytest.raises(UsageError, match="gives no candles; choose another exchange"):
        open_exchange(without)
    assert open_exchange("binance").id == "binance"


def test_without_ccxt_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ccxt", None)
    with pytest.raises(UsageError, match="pip install ccxt"):
        open_exchange("binance")


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["fetch", *arguments])
    return int(left.value.code or 0)


def test_fetch_commands(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no candletune.toml here: the defaults serve
    server.answer = in_turn((200, history((0, 30))))
    assert command("fear-greed", "--output", "fear.csv", "--url", server.url) == 0
    assert command("fear-greed", "--set", "data.folder=d", "--url", server.url) == 0
    assert (tmp_path / "d" / "fear_greed.csv").exists()
    said = capsys.readouterr().err
    assert "1 days added, 1 in all" in said
    pasted = tomllib.loads(said[said.rindex("[data]") :])
    assert pasted == {"data": {"fear_greed": str(tmp_path / "d" / "fear_greed.csv")}}
    Exchange(server)
    monkeypatch.setattr("candletune.market.fetch_candles.PAGE", 10**6)  # the years since are one window
    pairs = ("--set", "data.pairs=['BTC/USDT:USDT']", "--set", "data.folder=d")
    assert command("candles", *pairs, "--since", "2024-01-01", "--url", server.url) == 0
    assert "61 candles added, 61 in all" in " ".join(capsys.readouterr().err.split())
    assert command("candles", *pairs, "--exchange", "nowhere") == 2
    assert command("candles", "--config", "missing.toml") == 2
