"""llama.cpp's servers answer as this process does, whatever happens to them; and none but the one meant is asked.

The real server where it is built (`make llama-server`); what it would take another server for, a made-up one.
"""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from adapters import ALL, make_adapter
from candletune.artifacts import ExportSummary
from candletune.config import Config, EngineConfig, load_config
from candletune.console import SilentReporter
from candletune.engines import Stopped, http, llama_server
from candletune.engines.http import HttpEngine
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.errors import InputError, UsageError
from candletune.gguf.adapter import write_adapter
from candletune.gguf.header import read_header
from candletune.gguf.llama_vocabulary import VocabularyOnly
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.hashes import sha256_path
from candletune.journal import read_frame
from candletune.model_shape import read_shape
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.replay import replay
from candletune.stages.runner import run_stage
from llama_servers import RealServer, with_hash
from simulated_run import config_of
from stage_entries import record_stage

pytestmark = pytest.mark.llamacpp
ENGINE = load_config(None, ["engine.threads=1", "engine.max_tokens=12", "engine.patience=30"]).engine
AT_ONCE = 16
GAP = 5e-3
"""Between a prompt read alone and in company, over float32 weights; keys and values are float16."""


@pytest.fixture(scope="module")
def files(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.gguf; adapters a.gguf and b.gguf; both again with their hash in the name; other.gguf, another base."""
    folder = tmp_path_factory.mktemp("http")
    shape, reporter = read_shape(random_base), SilentReporter()
    write_model(random_base, folder / "base.gguf", number_format="F32", name="x", manifest={}, reporter=reporter)
    write_model(random_base, folder / "other.gguf", number_format="F16", name="x", manifest={}, reporter=reporter)
    for name, settings in {"a": {}, "b": {"seed": 9, "r": 16, "target_modules": list(ALL)}}.items():
        peft = read_adapter(make_adapter(random_base, folder / name, **settings), shape)  # type: ignore[arg-type]
        write_adapter(peft, shape, folder / f"{name}.gguf", number_format="F32", manifest={}, name=name)
        with_hash(folder / f"{name}.gguf", folder)
    return folder


def named(files: Path, *names: str) -> list[Path]:
    """The copies with their hash in the name."""
    return [with_hash(files / f"{name}.gguf", files) for name in names]


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[RealServer]:
    with RealServer(files / "base.gguf", named(files, "a", "b"), slots=8) as server:
        yield server


def settings(server: RealServer | str, **more: Any) -> EngineConfig:
    url = server if isinstance(server, str) else server.url
    return ENGINE.model_copy(update={"url": (url,), "requests": AT_ONCE, **more})


def opened(server: RealServer, files: Path, *adapters: str, **more: Any) -> HttpEngine:
    engine = HttpEngine(files / "base.gguf", settings(server, **more))
    for name in adapters:
        engine.add_adapter(name, files / f"{name}.gguf")
    return engine


def in_process(files: Path) -> LlamaCppEngine:
    engine = LlamaCppEngine(files / "base.gguf", ENGINE)
    for name in ("a", "b"):
        engine.add_adapter(name, files / f"{name}.gguf")
    return engine


def test_200_prompts_16_at_a_time_as_in_this_process(
    server: RealServer, files: Path, texts: tuple[list[str], list[str]]
) -> None:
    with closing(opened(server, files, "a", "b")) as engine, closing(in_process(files)) as ours:
        for name, prompts in (("b", texts[0][:10]), (None, texts[0][:10]), ("a", texts[0][:200])):
            engine.use(name)
            ours.use(name)
            found, expected = engine.score(prompts), ours.score(prompts)
            gap = np.abs(found - expected).max()
            assert gap < GAP
            two = np.sort(expected, axis=1)
            clear = two[:, 2] - two[:, 1] > 2 * gap  # of a tie rounding may make either
            assert clear.mean() > 0.9
            assert (found.argmax(axis=1) == expected.argmax(axis=1))[clear].all()
        reasons = engine.generate_all(prompts[:12], ["BUY", None, "SELL"] * 4)
        assert all(reason.text.startswith("DECISION: ") and reason.tokens for reason in reasons)
        alone = opened(server, files, "a", requests=1)
        alone.use("a")
        ours.use("a")
        assert alone.generate_all(prompts[:6], ["BUY", None, "SELL"] * 2) == ours.generate_all(
            prompts[:6], ["BUY", None, "SELL"] * 2
        )
        np.testing.assert_allclose(alone.score(prompts[:20]), ours.score(prompts[:20]), atol=2e-5)
        alone.close()


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    """A run folder as `replay` needs it: 100 decision times, the bare base against adapter a, 12 reasons."""
    folder = tmp_path_factory.mktemp("http-run")
    config = config_of(folder, "replay.stride=6", "replay.limit=50", "replay.reasons=12")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        run_stage(DATASET, config, run, SilentReporter())
    record_stage(run, ExportSummary(kind="adapter"))
    run.gguf.mkdir()
    shutil.copy(files / "a.gguf", run.adapter_gguf)
    shutil.copy(files / "base.gguf", run.base_gguf)
    return config.model_copy(update={"engine": ENGINE}), run


def on_servers(config: Config, **engine: Any) -> Config:
    return config.model_copy(update={"engine": ENGINE.model_copy(update={"requests": AT_ONCE, **engine})})


def journal_of(made: tuple[Config, RunFolder], config: Config) -> pl.DataFrame:
    replay(config, made[1], SilentReporter())
    return read_frame(made[1].journal)


def kill_and_restart(server: RealServer, journal: Path, at: int, killed: list[int]) -> threading.Thread:
    """Kill the server once the journal holds so many rows, and start it again after a while."""

    def work() -> None:
        while not journal.exists() or len(journal.read_bytes().splitlines()) < at:
            time.sleep(0.005)
        server.kill()
        killed.append(len(journal.read_bytes().splitlines()))
        time.sleep(0.7)
        server.start()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_loses_and_doubles_nothing(
    made: tuple[Config, RunFolder], files: Path
) -> None:
    config, run = made
    expected = journal_of(made, config)
    run.journal.unlink()
    server = RealServer(run.base_gguf, named(files, "b", "a"), slots=8)
    with server:
        killed: list[int] = []
        thread = kill_and_restart(server, run.journal, 64, killed)
        found = journal_of(made, on_servers(config, url=(server.url,)))
        thread.join()
        assert 64 <= killed[0] < 100
        same_journal(found, expected)
        # And the command itself broke off: run again, it goes on behind the last row.
        run.journal.unlink()
        killed.clear()
        thread = kill_and_restart(server, run.journal, 64, killed)
        impatient = on_servers(config, url=(server.url,), patience=0.1)
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{server.port}: .*no answer for 0\.1 s.*same command"):
            replay(impatient, run, SilentReporter())
        thread.join()
        assert 64 <= len(read_frame(run.journal)) < 100
        same_journal(journal_of(made, impatient), expected)


def same_journal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.height == expected.height == 100
    keys = [
        "timestamp",
        "ticker",
        "prompt_sha256",
        "active_status",
        "shadow_status",
        "active_adapter",
        "shadow_adapter",
    ]
    assert found.select(keys).equals(expected.select(keys))
    assert found.select("timestamp", "ticker").is_duplicated().sum() == 0
    for role in ("active", "shadow"):
        columns = [f"{role}_p_{name}" for name in ("buy", "sell", "hold")]
        ours, theirs = found.select(columns).to_numpy(), expected.select(columns).to_numpy()
        gap = np.abs(ours - theirs).max()
        assert gap < GAP
        two = np.sort(theirs, axis=1)
        clear = two[:, 2] - two[:, 1] > 2 * gap
        same = (found[f"{role}_action"] == expected[f"{role}_action"]).to_numpy()
        assert same[clear].all()
        assert found[f"{role}_reasoning"].is_null().equals(expected[f"{role}_reasoning"].is_null())


def test_a_restart_with_other_numbers_is_noticed_though_no_request_failed(
    files: Path, texts: tuple[list[str], list[str]]
) -> None:
    """Between two calls nothing is under way; the adapters' numbers are the server's own, and change places."""
    with RealServer(files / "base.gguf", named(files, "a", "b")) as server:
        with closing(opened(server, files, "a", "b", requests=1)) as engine:
            engine.use("a")
            first = engine.score(texts[0][:4])
            server.kill()
            server.adapters.reverse()
            server.start()
            np.testing.assert_array_equal(engine.score(texts[0][:4]), first)
            server.kill()
            server.adapters = named(files, "b")
            server.start()
            with pytest.raises(InputError, match=r"has no adapter .*start llama-server with --lora a-.*\.gguf"):
                engine.score(texts[0][:4])


def test_what_is_not_the_one_meant_is_refused(server: RealServer, files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"serves base\.gguf, which is not .*other\.gguf \(another size\).*with -m"):
        HttpEngine(files / "other.gguf", settings(server))
    changed = tmp_path / "base.gguf"
    data = bytearray((files / "base.gguf").read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    with pytest.raises(InputError, match="another content"):
        HttpEngine(changed, settings(server))
    with pytest.raises(InputError, match=r"2048 tokens a slot, engine\.context is 4096; start it with -c"):
        HttpEngine(files / "base.gguf", settings(server, context=4096))
    with pytest.raises(InputError, match=r"nobody answers there.*start llama-server there, or correct engine\.url"):
        HttpEngine(files / "base.gguf", settings("http://127.0.0.1:9"))
    with closing(opened(server, files)) as engine:
        third = tmp_path / "third.gguf"
        peft = files / "a.gguf"
        third.write_bytes(peft.read_bytes() + bytes(32))
        with pytest.raises(InputError, match=rf"has no adapter {sha256_path(third)[:8]}; copy {third} to third-"):
            engine.add_adapter("third", third)
        with pytest.raises(InputError, match="not loaded"):
            engine.use("third")
        assert engine.score(["RSI 40"]).shape == (1, 3)  # the refused one is forgotten
        with pytest.raises(InputError, match="whole model"):
            engine.add_adapter("base", files / "base.gguf")
    with pytest.raises(InputError, match="is a LoRA adapter"):
        HttpEngine(files / "a.gguf", settings(server))


def test_a_key_is_sent_and_never_shown(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(http.KEY, "geheim-1")
    with RealServer(files / "base.gguf", more=["--api-key", "geheim-1"]) as server:
        with closing(HttpEngine(files / "base.gguf", settings(server))) as engine:
            assert engine.score(["RSI 40"]).shape == (1, 3)
        monkeypatch.setenv(http.KEY, "geheim-2")
        with pytest.raises(InputError, match=r"refuses the key \(status 401\); set CANDLETUNE_ENGINE_KEY") as refused:
            HttpEngine(files / "base.gguf", settings(server))
    assert "geheim" not in str(refused.value) + "".join(capfd.readouterr())
    with pytest.raises(UsageError, match="sent in the clear; use https"):
        HttpEngine(files / "base.gguf", settings("http://192.0.2.1:80", remote=True))


class Other(BaseHTTPRequestHandler):
    """A server of something else: sends whoever asks to another place."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://192.0.2.1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_neither_a_proxy_nor_a_redirect_is_followed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="refuses with status 302"):
            HttpEngine(files / "base.gguf", settings(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()


def test_a_server_that_never_answers_is_given_up(files: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"{url}: it broke off \(ReadTimeout\); start llama-server there"):
            HttpEngine(files / "base.gguf", settings(url, timeout=0.2, patience=0.5))


# --- servers that are none, made up ---------------------------------------------------------------------------------

Handler = Callable[[httpx.Request], httpx.Response]


class MadeUp:
    """What a llama.cpp server over base.gguf says, by path; a test changes an answer."""

    def __init__(self, base: Path) -> None:
        header = read_header(base)
        self.vocabulary = VocabularyOnly(base)
        size = sum(tensor.nbytes for tensor in header.tensors)
        params = sum(int(np.prod(tensor.sizes)) for tensor in header.tensors)
        meta = {"n_vocab": self.vocabulary.vocabulary.size, "n_params": params, "size": size}
        self.answers: dict[str, Any] = {
            "/props": {"model_path": "/elsewhere/x.gguf", "default_generation_settings": {"n_ctx": 4096}},
            "/v1/models": {"data": [{"meta": meta}]},
            "/lora-adapters": [],
            "/tokenize": lambda body: {"tokens": self.vocabulary.vocabulary.encode(body["content"])},
            "/completion": lambda body: {
                "completion_probabilities": [
                    {
                        "top_probs": [
                            {"id": t, "prob": p} for (t, _), p in zip(body["logit_bias"], (0.5, 0.2, 0.3), strict=True)
                        ]
                    }
                ]
            },
        }
        self.asked: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        answer = self.answers[path]
        if callable(answer):
            answer = answer(json.loads(request.content))
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


@pytest.fixture
def made_up(files: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    handler = MadeUp(files / "base.gguf")
    monkeypatch.setattr(http, "_client", lambda _: httpx.AsyncClient(transport=httpx.MockTransport(handler)))
    return handler


def over(files: Path, **more: Any) -> HttpEngine:
    return HttpEngine(files / "base.gguf", settings("http://127.0.0.1:1", **more))


def test_the_three_decisions_are_asked_for(made_up: MadeUp, files: Path) -> None:
    with closing(over(files)) as engine:
        np.testing.assert_allclose(engine.score(["RSI 40"] * 3), [[0.5, 0.2, 0.3]] * 3)
        assert engine.score([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/props", {}, "is no llama.cpp server"),
        ("/props", [1], "is no llama.cpp server"),
        ("/v1/models", {"data": []}, "is no llama.cpp server"),
        ("/props", httpx.Response(404, text="nothing here"), r"refuses with status 404 \(nothing here\)"),
        ("/props", httpx.Response(200, text="<html>"), "answers no JSON"),
        ("/props", httpx.Response(200, content=bytes(llama_server.LIMIT + 1)), "answers more than 8 MiB"),
        ("/tokenize", {"tokens": [1, 2, 3]}, "other tokens than .*base.gguf"),
        ("/tokenize", {}, "other tokens than"),
        ("/lora-adapters", {"error": "x"}, "does not list its adapters"),
    ],
)
def test_an_odd_server_is_refused_at_the_start(made_up: MadeUp, files: Path, path: str, answer: Any, said: str) -> None:
    made_up.answers[path] = answer
    with pytest.raises(InputError, match=rf"http://127\.0\.0\.1:1: .*{said}"):
        over(files)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "gives no token probabilities"),
        ({"completion_probabilities": [{"top_probs": [{"id": -5, "prob": 1.0}]}]}, "other tokens' probabilities"),
        ({"completion_probabilities": [{"top_probs": []}]}, "other tokens' probabilities"),
        (httpx.Response(400, text="no such field"), "status 400"),
        ([], "answers no object"),
    ],
)
def test_an_odd_answer_is_refused(made_up: MadeUp, files: Path, answer: Any, said: str) -> None:
    with closing(over(files)) as engine:
        made_up.answers["/completion"] = answer
        with pytest.raises(InputError, match=said):
            engine.score(["RSI 40"])


def test_what_is_no_number_stays_none(made_up: MadeUp, files: Path) -> None:
    with closing(over(files)) as engine:
        made_up.answers["/completion"] = lambda body: {
            "completion_probabilities": [{"top_probs": [{"id": t, "prob": None} for t, _ in body["logit_bias"]]}]
        }
        assert np.isnan(engine.score(["RSI 40"])).all()


def test_a_busy_server_is_asked_again_and_a_broken_connection_checks_it_anew(made_up: MadeUp, files: Path) -> None:
    with closing(over(files, requests=1)) as engine:
        good = made_up.answers["/completion"]
        faults: list[Any] = [
            httpx.Response(503, text="loading"),
            httpx.ReadError("reset"),
            httpx.ConnectError("refused"),
        ]

        def sometimes(body: dict[str, Any]) -> Any:
            if not faults:
                return good(body)
            fault = faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault

        made_up.answers["/completion"] = sometimes
        made_up.asked.clear()
        np.testing.assert_allclose(engine.score(["RSI 40"]), [[0.5, 0.2, 0.3]])
        assert made_up.asked.count("/completion") == 4
        assert made_up.asked.count("/props") == 2, "it is checked again after each connection that broke"


def test_patience_ends(made_up: MadeUp, files: Path) -> None:
    with closing(over(files, patience=0.3)) as engine:
        made_up.answers["/completion"] = httpx.Response(503, text="busy")
        with pytest.raises(InputError, match=r"status 503: busy; no answer for 0\.3 s \(engine\.patience\)"):
            engine.score(["RSI 40"] * 40)


def test_a_stop_ends_what_is_under_way(made_up: MadeUp, files: Path) -> None:
    """Also from another thread than the one that opened it, as `serve` asks."""

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    with closing(over(files)) as engine:
        good = made_up.answers["/completion"]
        made_up.answers["/completion"] = lambda _: never()
        asked = threading.Event()
        outcome: list[type[BaseException]] = []

        def ask() -> None:
            engine.stop_when(asked.is_set)
            try:
                engine.score(["RSI 40"] * 20)
            except Stopped as stopped:
                outcome.append(type(stopped))
            engine.stop_when(None)

        thread = threading.Thread(target=ask)
        thread.start()
        while "/completion" not in made_up.asked:
            time.sleep(0.005)
        asked.set()
        thread.join(20)
        assert outcome == [Stopped]
        made_up.answers["/completion"] = good
        assert engine.score(["RSI 40"]).shape == (1, 3)


def test_the_work_is_spread_over_servers_and_a_dead_one_is_passed_over(
    made_up: MadeUp, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int | None, int] = {}
    dead: set[int | None] = set()

    async def by_port(request: httpx.Request) -> httpx.Response:
        if request.url.port in dead:
            raise httpx.ConnectError("refused")
        if request.url.path == "/completion":
            asked[request.url.port] = asked.get(request.url.port, 0) + 1
            await asyncio.sleep(0.005)
        return await made_up(request)

    monkeypatch.setattr(http, "_client", lambda _: httpx.AsyncClient(transport=httpx.MockTransport(by_port)))
    config = ENGINE.model_copy(update={"url": ("http://127.0.0.1:1", "http://127.0.0.1:2"), "requests": 4})
    with closing(HttpEngine(files / "base.gguf", config)) as engine:
        engine.score(["RSI 40"] * 20)
        assert asked == {1: 10, 2: 10}
        dead.add(1)
        engine.score(["RSI 40"] * 20)
        assert asked == {1: 10, 2: 30}


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("engine.url=http://u:geheim@127.0.0.1:1", "no name or password in an address.*CANDLETUNE_ENGINE_KEY"),
        ("engine.url=ftp://127.0.0.1", "expected an address such as"),
        ("engine.url=http://127.0.0.1:99999", "expected an address such as"),
        ("engine.url=http://192.0.2.1:8080", "another host; set engine.remote=true"),
        ("engine.url=http://127.0.0.1.example.com", "another host"),
    ],
)
def test_addresses_that_are_refused(assignment: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        load_config(None, [assignment])
    assert "geheim" not in str(refused.value)


def test_addresses() -> None:
    assert load_config(None, ["engine.url=http://localhost:8080/"]).engine.url == ("http://localhost:8080",)
    config = load_config(None, ["engine.url=['http://[::1]:1', 'https://gpu.example.com']", "engine.remote=true"])
    assert config.engine.url == ("http://[::1]:1", "https://gpu.example.com")
    with pytest.raises(UsageError, match=r"engine\.url: empty"):
        http.open_http(load_config(None, []), Path("x.gguf"))
