"""HTTP on loopback: every request its own answer, a bounded queue, clear refusals, a clean end."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes import FakeEngine

from candletune.config import load_config
from candletune.decide import Answer
from candletune.live.faults import KINDS
from candletune.live.signal import Trader

HERE = Path(__file__).parent
REQUESTS, CLIENTS = 10_000, 16


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve_fake.py` and its port."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(HERE / "serve_fake.py"), str(folder), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with serving(tmp_path) as found:
        yield found


def context(number: int) -> dict[str, Any]:
    return {"ticker": f"C{number % 7}", "price_usd": 1000.0 + number, "rsi": number % 100}


def post(connection: HTTPConnection, body: str, **headers: str) -> tuple[int, Any]:
    connection.request("POST", "/signal", body, {"content-type": "application/json"} | headers)
    response = connection.getresponse()
    text = response.read().decode()
    is_json = (response.getheader("content-type") or "").startswith("application/json")
    return response.status, json.loads(text) if is_json else text


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def wait_until_ready(port: int) -> None:
    late = time.monotonic() + 30
    while time.monotonic() < late:
        try:
            if get(port, "/ready")[0] == 200:
                return
        except OSError:
            pass
        threading.Event().wait(0.1)
    pytest.fail("the server did not become ready in 30 s")


def test_refusals_health_and_metrics(server: tuple[subprocess.Popen[str], int]) -> None:
    port = server[1]
    wait_until_ready(port)
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    status, answer = post(connection, json.dumps(context(1)))
    assert (status, answer["status"]) == (200, "ok")
    for body, words in (
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"ticker": "BTC"}', "context.price_usd"),
        (json.dumps(context(1) | {"_lora_override": "/none.gguf"}), "_lora_override"),
    ):
        status, answer = post(connection, body)
        assert (status, answer["status"], answer["action"]) == (422, "error", None)
        assert words in answer["error"]
    assert post(HTTPConnection("127.0.0.1", port), "x" * 70_000)[0] == 413
    assert post(HTTPConnection("127.0.0.1", port), "{}", host="evil.example")[0] == 403
    assert post(HTTPConnection("127.0.0.1", port), "{}", origin="http://evil.example")[0] == 403
    assert get(port, "/signal")[0] == 405
    assert get(port, "/health") == (200, '{"status":"ok"}')
    assert json.loads(get(port, "/ready")[1])["model"] == "bare base"
    metrics = get(port, "/metrics")[1]
    assert 'candletune_requests_total{status="ok"} 1' in metrics
    assert 'candletune_requests_total{status="error"} 4' in metrics
    assert "candletune_queue_length 0" in metrics and "candletune_stuck 0" in metrics
    counted = dict(re.findall(r'candletune_faults_total\{kind="(\w+)"\} (\d+)', metrics))
    assert set(counted) == set(KINDS)
    happened = {kind: int(count) for kind, count in counted.items() if int(count)}
    assert happened == {"context": 3, "override": 1, "large_body": 1, "foreign_request": 2}
    assert 'candletune_request_seconds{quantile="0.99"} ' in metrics


@pytest.mark.slow
def test_10000_requests_none_lost_none_mixed_memory_bounded_clean_end(
    server: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = server
    wait_until_ready(port)
    folder = tmp_path / "expected"
    config = load_config(None, [f"run.folder={folder}", f"live.state={folder / 'active.json'}"])
    trader = Trader(config, engine=FakeEngine())
    expected = [trader.predict(context(number)).answer() for number in range(REQUESTS)]
    sizes: list[int] = []

    def client(first: int) -> list[int]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        wrong = []
        for number in range(first, REQUESTS, CLIENTS):
            status, answer = post(connection, json.dumps(context(number)))
            if status != 200 or answer != expected[number]:
                wrong.append(number)
            if number % 500 == 0:
                sizes.append(psutil.Process(process.pid).memory_info().rss)
        return wrong

    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = [number for part in pool.map(client, range(CLIENTS)) for number in part]
    assert wrong == []
    assert f'candletune_requests_total{{status="ok"}} {REQUESTS}' in get(port, "/metrics")[1]
    # The first requests import and warm up; after that, memory stays.
    assert max(sizes[len(sizes) // 4 :]) - sizes[len(sizes) // 4] < 16 << 20
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "closed\n"


def test_a_full_queue_turns_requests_away_at_once(tmp_path: Path) -> None:
    import asyncio

    from candletune.web.serve import RequestQueue, TurnedAway

    gate = threading.Event()

    class Slow(FakeEngine):
        def _trip(self) -> None:
            gate.wait(30)

    config = load_config(None, [f"run.folder={tmp_path}", f"live.state={tmp_path / 'active.json'}"])
    requests = RequestQueue(Trader(config, engine=Slow()), 3)

    async def ask() -> list[tuple[int, Answer | TurnedAway]]:
        body = json.dumps(context(1)).encode()
        waiting = [asyncio.create_task(requests.ask(body)) for _ in range(3)]
        await asyncio.sleep(0)
        away = [await requests.ask(body) for _ in range(2)]
        gate.set()
        return [*away, *await asyncio.gather(*waiting)]

    answers = asyncio.run(ask())
    assert [status for status, _ in answers] == [503, 503, 200, 200, 200]
    assert "wait already" in answers[0][1]["error"]
    assert 'candletune_requests_total{status="turned_away"} 2' in requests.metrics()
    requests.close()
