"""As a service: systemd hears that a model has answered and that it lives; messages are JSON where that is asked."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from fakes import FakeEngine

from candletune.config import load_config
from candletune.console import JsonReporter
from candletune.errors import InputError
from candletune.live.signal import Trader
from candletune.process import tell_service
from candletune.web.serve import RequestQueue, build_app

unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.01)

    def heard(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096).decode())
        except TimeoutError:
            return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
    return Systemd(tmp_path / "n")


@unix
def test_it_is_told_and_never_in_the_way(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tell_service("READY=1")
    assert systemd.heard() == ["READY=1"]
    for address in ("", "/nowhere/at/all", "vsock:2:1"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not tell_service("READY=1")


def trader_of(tmp_path: Path, engine: FakeEngine) -> Trader:
    return Trader(load_config(None, [f"run.folder={tmp_path}", f"live.state={tmp_path / 's.json'}"]), engine=engine)


def test_proven_means_that_it_has_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    trader = trader_of(tmp_path, engine)
    monkeypatch.setattr(engine, "score", lambda _: [[float("nan")] * 3])
    with pytest.raises(InputError, match="does not answer"):
        trader.prove()
    monkeypatch.undo()
    assert trader.prove().name == "bare base"
    monkeypatch.setattr(engine, "score", lambda _: pytest.fail("asked again"))
    trader.prove()


@unix
def test_serve_is_ready_when_the_model_has_answered(systemd: Systemd, tmp_path: Path) -> None:
    requests = RequestQueue(trader_of(tmp_path, FakeEngine()), 4)
    app = build_app(requests, port=8377)

    async def live() -> None:
        started, ends = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, str]:
            if started.is_set():
                await ends.wait()
                return {"type": "lifespan.shutdown"}
            return {"type": "lifespan.startup"}

        async def send(_: object) -> None:
            started.set()

        serving = asyncio.create_task(app({"type": "lifespan", "asgi": {}}, receive, send))
        await started.wait()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if requests._active is not None:
                break
        await asyncio.sleep(0.05)
        ends.set()
        await serving

    asyncio.run(live())
    requests.close()
    heard = systemd.heard()
    assert heard[0].startswith("STATUS=")
    assert heard[1:] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_messages_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from candletune.cli import main

    monkeypatch.setitem(os.environ, "CANDLETUNE_LOG_JSON", "")
    reporter = JsonReporter()
    reporter.warn('a "quoted"\nline')
    with reporter.task("work"):
        pass
    with pytest.raises(SystemExit) as left:
        main(["status", "--log-json", "--set", "nothing=1", "--set", "run.folder=x"])
    assert left.value.code == 2
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "info", "info", "error"]
    assert lines[0]["message"] == 'a "quoted"\nline'
    assert "nothing" in lines[-1]["message"]
