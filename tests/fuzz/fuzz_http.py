"""Bytes on a socket: requests of `serve` near good ones; every connection ends, and the server answers the next one.

The server runs in this process, on a thread of its own, over an engine without a model.
"""

import errno
import json
import logging
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.live.signal import Trader
from candletune.web.serve import RequestQueue, build_app
from candletune.web.server import Bounds, server_of
from candletune.web.socket import listen
from fuzz.damage import TEXTS, damaged, hostile_json
from fuzz.driver import Check, Target

GOOD = {"ticker": "BTC", "price_usd": 97_000.0, "rsi": 28.3, "ema_bullish": True, "headlines": ["up", "down"]}
PATHS = (
    "/signal",
    "/signal",
    "/signal",
    "/signal",
    "/health",
    "/ready",
    "/metrics",
    "/",
    "/signal/../x",
    "*",
    "//a",
    "/%00",
)
METHODS = ("POST", "POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "")
HEADERS = (
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Length: 4",
    "Content-Length: 99999999999999999999",
    "Content-Length: -1",
    "Content-Length: 0x10",
    "Expect: 100-continue",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: h2c",
    "Connection: close",
    "Connection: keep-alive, x",
    "Origin: http://evil.example",
    "Sec-Fetch-Site: cross-site",
    "Cookie: " + "a=b; " * 500,
    "X: \x00",
    "X : y",
    " folded",
    "Host: evil.example",
)


def make(rng: random.Random) -> bytes:
    """One to three requests on a connection; PORT stands for the port."""
    return b"".join(_request(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _request(rng: random.Random) -> bytes:
    body = hostile_json(rng, GOOD)[:70_000].encode("utf-8", "surrogatepass")
    lines = ["Host: 127.0.0.1:PORT", f"Content-Length: {len(body)}"]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        lines.insert(rng.randrange(3), rng.choice(HEADERS))
    if rng.random() < 0.1:
        lines.pop(rng.randrange(len(lines)))
    if rng.random() < 0.05:
        lines += [f"X-{number}: {rng.choice(TEXTS)[:200]}" for number in range(rng.choice((10, 200)))]
    method, path = rng.choice(METHODS), rng.choice(PATHS)
    version = rng.choice((*["1.1"] * 12, "1.0", "2.0", "9"))
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return damaged(rng, head) + body if rng.random() < 0.15 else head + body


class _Said(logging.Handler):
    """What the server logs as an error: no client should be able to make it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.getMessage()} {record.exc_info}")


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    """A server with short deadlines."""
    config = load_config(None, [f"run.folder={folder / 'run'}", f"live.state={folder / 'active.json'}"])
    requests = RequestQueue(Trader(config, engine=FakeEngine()), config.live.queue)
    bound = listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = server_of(build_app(requests, port=port), bounds=Bounds(request_seconds=0.5, read_seconds=0.5))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    good, said = _whole(port), _Said()
    logging.getLogger("uvicorn.error").addHandler(said)
    logging.getLogger("asyncio").addHandler(said)
    asked = 0

    def check(case: bytes) -> str:
        nonlocal asked
        asked += 1
        answer = _say(port, case.replace(b"PORT", str(port).encode()), SHORT)
        if asked % 20 == 0:
            assert b" 200 OK" in _say(port, good, 10), "the server does not answer any more"
        if not answer:
            return "closed"
        status = answer.split(b" ", 2)[1].decode()
        assert answer.startswith(b"HTTP/1.1 "), answer[:200]
        assert status in KNOWN, answer[:500]
        assert b"internal error" not in answer, answer[-500:]
        assert b"Internal Server Error" not in answer
        assert not said.records, said.records
        return status

    try:
        yield check
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()
    assert requests.close()


SHORT = 0.004
"""Seconds for the first of an answer; what is under way when we say that nothing more comes is not answered."""
KNOWN = {"100", "200", "400", "403", "404", "405", "411", "413", "422", "503"}


def _whole(port: int) -> bytes:
    body = json.dumps(GOOD).encode()
    head = (
        f"POST /signal HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _say(port: int, data: bytes, wait: float) -> bytes:
    """Send, wait for the first of an answer, say that nothing more comes, and take the rest until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.settimeout(wait)
            try:
                answer = sock.recv(65_536)
            except TimeoutError:
                pass
            sock.settimeout(10)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65_536):
                answer += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
    return answer


TARGET = Target(make, opened)
