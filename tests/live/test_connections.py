"""What a client may take: bytes that were not announced, time, connections, names; and a worker that hangs."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes import FakeEngine
from test_serving import context, get, post, serving, wait_until_ready

from candletune.config import load_config
from candletune.errors import InputError
from candletune.gguf.catalogue import versioned_name
from candletune.live.overrides import MAX_OVERRIDES
from candletune.live.signal import Trader, answer_text
from fuzz.gguf_cases import Pair, lora

Server = tuple[subprocess.Popen[str], int]


@pytest.fixture(scope="module", params=["serve", "review"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose clients have half a second."""
    kind = [f"review={int(request.param == 'review')}"]
    with serving(
        tmp_path_factory.mktemp("server"), *kind, "request_seconds=0.5", "read_seconds=0.5", "connections=40"
    ) as found:
        wait_until_up(found[1])
        yield found


def wait_until_up(port: int) -> None:
    for _ in range(300):
        try:
            get(port, "/health")
            return
        except OSError:
            threading.Event().wait(0.1)
    pytest.fail("nobody listens")


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    made.settimeout(30)
    return made


def head(port: int, *lines: str, path: str = "/signal") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines, "", ""]).encode()


def rest(sock: socket.socket) -> bytes:
    """What comes until the server closes; a timeout here is a connection that was kept."""
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("announced", ["4", "none", "400000000"])
def test_the_body_is_bounded_by_what_comes_not_by_what_is_announced(either: Server, announced: str) -> None:
    """400 MB were read under `Content-Length: 4`, and answered with 200."""
    process, port = either
    before = psutil.Process(process.pid).memory_info().rss
    lines = ["Transfer-Encoding: chunked"] + ([] if announced == "none" else [f"Content-Length: {announced}"])
    with connected(port) as sock:
        try:
            sock.sendall(head(port, *lines))
            for _ in range(64):
                sock.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it closed: so it should
        answer = rest(sock)
    assert answer == b"" or answer.split(b" ", 2)[1] in (b"411", b"400"), answer[:200]
    assert psutil.Process(process.pid).memory_info().rss - before < 16 << 20
    wait_until_up(port)


def test_a_body_beyond_what_was_announced_is_not_read(either: Server) -> None:
    _, port = either
    with connected(port) as sock:
        sock.sendall(head(port, "Content-Length: 70000") + b"x" * 70_000)
        assert b" 413 " in rest(sock)


SLOW: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "half a header": ("POST /signal HTTP/1.1\r\nHost: 127",),
    "a header a byte at a time": ("GET",),
    "half a body": ("", "Content-Length: 100"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_client_is_closed(either: Server, kind: str) -> None:
    _, port = either
    with connected(port) as sock:
        if kind == "half a body":
            sock.sendall(head(port, "Content-Length: 100") + b"{")
        elif kind != "nothing":
            sock.sendall(SLOW[kind][0].encode())
        if kind == "a header a byte at a time":
            for _ in range(100):
                try:
                    sock.sendall(b"x")
                except OSError:
                    break
                threading.Event().wait(0.1)
            else:
                pytest.fail("ten seconds of one byte at a time")
        assert rest(sock) == b""


def test_an_idle_connection_is_closed_after_its_answer(either: Server) -> None:
    _, port = either
    with connected(port) as sock:
        sock.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        answer = rest(sock)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_long_headers_are_refused(either: Server) -> None:
    _, port = either
    with connected(port) as sock:
        try:
            sock.sendall(head(port, *(f"X-{number}: {'x' * 1_000}" for number in range(100))))
        except OSError:
            pass
        assert b"200 OK" not in rest(sock)


def test_idle_connections_do_not_keep_others_out(either: Server) -> None:
    """Beyond the limit the one that has been silent for longest goes."""
    process, port = either
    held = [connected(port) for _ in range(120)]
    assert get(port, "/health")[0] in (200, 404)
    assert psutil.Process(process.pid).num_fds() < 80 if hasattr(psutil.Process, "num_fds") else True
    for sock in held:
        sock.close()


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_the_end_does_not_wait_for_1500_connections(tmp_path: Path) -> None:
    """It took 31 seconds: uvicorn waited for bodies that never came."""
    with serving(tmp_path, "connections=2000") as (process, port):
        wait_until_up(port)
        silent = [connected(port) for _ in range(750)]
        half = [connected(port) for _ in range(750)]
        for sock in half:
            sock.sendall(head(port, "Content-Length: 100", path="/signal") + b"{")
        assert get(port, "/health")[0] in (200, 404)
        process.send_signal(signal.SIGTERM)
        process.wait(12)
        for sock in silent + half:
            sock.close()


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_a_worker_that_hangs_is_told_and_the_process_can_be_ended(tmp_path: Path) -> None:
    """`/health` said 200, and SIGTERM did nothing for 45 seconds."""
    with serving(tmp_path, "stuck=1") as (process, port):
        wait_until_up(port)  # it never gets ready: that wants an answer of the model
        with connected(port) as sock:
            body = json.dumps(context(1)).encode()
            sock.sendall(head(port, f"Content-Length: {len(body)}") + body)
            for _ in range(300):
                status, text = get(port, "/health")
                if status == 503:
                    break
                threading.Event().wait(0.1)
            assert (status, json.loads(text)["status"]) == (503, "stuck")
            assert "live.stuck_seconds" in json.loads(text)["error"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(12) == 1


def test_requests_at_the_end_are_answered(tmp_path: Path) -> None:
    """With an answer or with a refusal; none is dropped."""
    with serving(tmp_path) as (process, port):
        wait_until_ready(port)
        seen: list[int] = []

        def client() -> None:
            try:
                while True:
                    status, _ = post(HTTPConnection("127.0.0.1", port, timeout=30), json.dumps(context(1)))
                    seen.append(status)
            except ConnectionRefusedError:
                seen.append(0)
            except OSError:
                seen.append(0)

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(seen) < 20:
            threading.Event().wait(0.05)
        process.terminate()
        for thread in threads:
            thread.join(30)
        assert set(seen) <= {200, 503, 0}
        process.wait(12)


# --- `_lora_override` ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Adapters that a request may name."""
    made = tmp_path / "named"
    made.mkdir()
    for number in range(MAX_OVERRIDES + 2):
        file = lora()
        file.pairs = [pair for pair in file.pairs if pair.key != "candletune.manifest"]
        file.pairs.append(Pair("general.tags", 8, str(number)))
        (made / f"a{number}.gguf").write_bytes(file.written())
    return made


def trader_of(folder: Path) -> tuple[Trader, FakeEngine]:
    engine, here = FakeEngine(), folder.parent
    settings = [f"run.folder={here / 'run'}", f"live.state={here / 'active.json'}", f"live.adapters={folder}"]
    return Trader(load_config(None, settings), engine=engine), engine


def asked(trader: Trader, override: str) -> dict[str, Any]:
    text = json.dumps(context(1) | {"_lora_override": override})
    return dict(answer_text(trader, text, names_only=True)[0])


def test_over_http_a_path_is_only_a_name_that_nobody_has(folder: Path) -> None:
    """One text for all, so that none says which files exist."""
    trader, engine = trader_of(folder)
    paths = [str(folder / "a0.gguf"), str(folder / "none.gguf"), "/etc/passwd", "/proc/self/pagemap", "../named/a0"]
    for path in (*paths, "~/a0", "named/a0.gguf", str(folder), "a0.gguf/../a1.gguf"):
        answer = asked(trader, path)
        assert answer["status"] == "error"
        assert answer["error"].replace(repr(path), "X") == (
            "context._lora_override: X is no known model (bare base, candidate, base, or the name of an exported "
            "version or of a file in live.adapters); nothing was asked"
        )
    assert engine.adapters == {}


def test_a_spelling_does_not_pass_the_limit(folder: Path) -> None:
    """60 were loaded by leaving off `.gguf`."""
    trader, engine = trader_of(folder)
    refused = 0
    for number in range(MAX_OVERRIDES + 2):
        path = folder / f"a{number}.gguf"
        for name in (path.stem, path.name, versioned_name(path)):
            answer = asked(trader, name)
            refused += "were brought in already" in answer.get("error", "")
            if number < MAX_OVERRIDES:
                assert (answer["status"], answer["model"]) == ("ok", versioned_name(path))
    assert (len(engine.adapters), refused) == (MAX_OVERRIDES, 6)


def test_on_the_command_line_a_path_is_fine(folder: Path) -> None:
    trader, engine = trader_of(folder)
    answer, code = answer_text(trader, json.dumps(context(1) | {"_lora_override": str(folder / "a0.gguf")}))
    assert (answer["status"], code, len(engine.adapters)) == ("ok", 0, 1)


def test_a_file_without_an_end_is_not_hashed(folder: Path) -> None:
    trader, _ = trader_of(folder)
    if not Path("/proc/self/pagemap").exists():
        pytest.skip("no such file here")
    with pytest.raises(InputError, match="it ends too early"):
        trader.predict(context(1) | {"_lora_override": "/proc/self/pagemap"})
