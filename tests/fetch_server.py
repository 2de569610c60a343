"""A local server that answers as the Fear & Greed index or an exchange does, with faults on demand."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

HOUR = 3_600_000
START = datetime(2024, 1, 1, tzinfo=UTC)
PAIR = "BTC/USDT:USDT"
Answer = tuple[int, bytes]
NEEDS_CCXT = "fetch candles needs ccxt: pip install 'candletune[exchange]'"


class Server:
    """Answers by path with what `answer` says; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answer: Callable[[str, dict[str, str]], Answer] = lambda _, __: (404, b"")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                outer.requests.append(self.path)
                code, body = outer.answer(parts.path, {key: value[0] for key, value in parse_qs(parts.query).items()})
                if code == 0:  # the line drops
                    self.connection.close()
                    return
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def history(*days: tuple[int, float]) -> bytes:
    entries = [{"timestamp": str(1704067200 + 86400 * day), "value": str(value)} for day, value in reversed(days)]
    return json.dumps({"name": "Fear and Greed Index", "data": entries}).encode()


def in_turn(*answers: Answer) -> Callable[[str, dict[str, str]], Answer]:
    left = list(answers)
    return lambda _, __: left.pop(0) if len(left) > 1 else left[0]


def no_wait(_: float) -> None:
    pass


class Exchange:
    """A Binance-like futures API over a list of candles; `faults` are served first, one a klines request."""

    def __init__(self, server: Server, first: int = 0, last: int = 60, page: int = 1000) -> None:
        pytest.importorskip("ccxt", reason=NEEDS_CCXT)
        self.server, self.page = server, page
        self.base = int(START.timestamp() * 1000)
        self.hours = [hour for hour in range(first, last + 1)]
        self.faults: list[Answer] = []
        self.price = 100.0
        server.answer = self.answer

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        if path.endswith("exchangeInfo"):
            market = {"symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "status": "TRADING"}
            coins = {"baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT", "filters": []}
            digits = {"pricePrecision": 2, "quantityPrecision": 3}
            return 200, json.dumps({"symbols": [market | coins | digits]}).encode()
        if self.faults:
            return self.faults.pop(0)
        since = (int(query["startTime"]) - self.base) // HOUR
        hours = [hour for hour in self.hours if hour >= since][: min(self.page, int(query["limit"]))]
        return 200, json.dumps([self.row(hour) for hour in hours]).encode()

    def row(self, hour: int) -> list[Any]:
        price, opened = self.price + hour, self.base + hour * HOUR
        values = [str(price), str(price + 2), str(price - 2), str(price + 1), "7.5"]
        return [opened, *values, opened + HOUR - 1, "0", 1, "0", "0", "0"]
