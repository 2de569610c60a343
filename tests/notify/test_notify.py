"""Messages against a local HTTP receiver: they arrive, they stop nothing, and no secret shows anywhere."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from candletune.artifacts import EvaluateSummary, StageSummary, VerifySummary
from candletune.cli import main
from candletune.config import Config, NotifyConfig, load_config
from candletune.config_file import commented_toml
from candletune.console import Reporter, SilentReporter
from candletune.demo import demo_toml
from candletune.errors import InputError, UsageError
from candletune.notify import Event, Notifier
from candletune.runs import RunFolder
from candletune.stages.runner import Stage, run_stage, settings_of

pytest.importorskip("apprise", reason="needs candletune[notify]")
SECRET = "hunter2"  # noqa: S105


class Receiver:
    """Keeps what is posted to it; `status` is its answer, after `delay` seconds."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status, self.delay = 200, 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(outer.delay)
                outer.messages.append(json.loads(body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:{SECRET}@127.0.0.1:{self._server.server_port}/{SECRET}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def tell(config: NotifyConfig, *events: Event) -> list[str]:
    warnings: list[str] = []
    with Notifier(config, warnings.append) as notifier:
        for event in events:
            notifier.tell(event, f"{event} happened", "line one\nline two")
    return warnings


def test_a_message_arrives_whole(receiver: Receiver) -> None:
    config = load_config(None, [f"notify.urls={receiver.url}"]).notify
    assert tell(config, Event.VERDICT) == []
    assert [(m["title"], m["message"]) for m in receiver.messages] == [
        ("candletune: verdict happened", "line one\nline two")
    ]


def test_it_is_off_without_an_address_and_for_events_not_wanted(receiver: Receiver) -> None:
    assert tell(NotifyConfig(), *Event) == []
    config = load_config(None, [f"notify.urls={receiver.url}", "notify.events=promotion,drift"]).notify
    tell(config, *Event)
    assert receiver.titles() == ["candletune: promotion happened", "candletune: drift happened"]


def test_addresses_from_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLETUNE_NOTIFY_URLS", f"{receiver.url}  {receiver.url}")
    assert tell(NotifyConfig(), Event.TRAINING) == []
    assert len(receiver.messages) == 2


def test_every_event_can_be_chosen() -> None:
    assert NotifyConfig().events == tuple(event.value for event in Event)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"nosuch://{SECRET}/{SECRET}", r"address 1 \(nosuch://\) is none that apprise knows"),
        (f"{SECRET}", r"address 1 \(no scheme\) is none"),
        (f"json://user:{SECRET}@127.0.0.1:9/{SECRET}", r"address 1 \(json://\): not delivered: candletune: verdict"),
    ],
)
def test_a_failure_is_one_line_without_the_secret(
    address: str, words: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        warnings = tell(load_config(None, [f"notify.urls={address}"]).notify, Event.VERDICT)
    assert len(warnings) == 1
    assert re.search(words, warnings[0])
    out, err = capfd.readouterr()
    assert SECRET not in warnings[0] + out + err + caplog.text


def test_a_service_that_refuses_or_raises_does_not_keep_others_from_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = f"json://user:{SECRET}@127.0.0.1:9/"
    config = load_config(None, [f'notify.urls=["{bad}", "{receiver.url}"]']).notify
    assert len(tell(config, Event.VERDICT)) == 1
    assert len(receiver.messages) == 1
    receiver.status = 500
    assert "not delivered" in tell(load_config(None, [f"notify.urls={receiver.url}"]).notify, Event.VERDICT)[0]

    import apprise

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(receiver.url)

    monkeypatch.setattr(apprise.Apprise, "notify", broken)
    warnings = tell(config, Event.VERDICT)
    assert [SECRET in line for line in warnings] == [False, False]
    assert "RuntimeError" in warnings[0]


def test_a_slow_service_holds_nothing_up(receiver: Receiver) -> None:
    receiver.delay = 1.0
    warnings: list[str] = []
    notifier = Notifier(load_config(None, [f"notify.urls={receiver.url}"]).notify, warnings.append)
    for number in range(150):
        notifier.tell(Event.FAULT, f"fault {number}")
    assert any("messages wait already; dropped: fault" in line for line in warnings)
    notifier.close(seconds=0.1)
    assert "gave up after 0.1 seconds" in warnings[-1]


def test_without_apprise_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candletune.notify.notifier.find_spec", lambda _: None)
    warnings = tell(load_config(None, [f"notify.urls=json://{SECRET}"]).notify, Event.VERDICT)
    assert warnings == ["notify.urls: needs apprise, so nothing is sent; pip install apprise"]


# --- secrets -------------------------------------------------------------------------------------------------------


def test_no_dump_of_a_configuration_shows_an_address(tmp_path: Path) -> None:
    file = tmp_path / "candletune.toml"
    file.write_text(f'[notify]\nurls = "tgram://{SECRET}/1"\n')
    config = load_config(file)
    assert config.notify.urls[0].get_secret_value() == f"tgram://{SECRET}/1"
    shown = [config.model_dump_json(), repr(config), str(config), json.dumps(settings_of(config, ("notify",)))]
    shown.append(commented_toml({"notify.urls": config.notify.urls}))
    assert all(SECRET not in text for text in shown)


@pytest.mark.parametrize("value", [f'["json://{SECRET}", 3]', f'{{a = "{SECRET}"}}'])
def test_no_error_shows_an_address(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, [f"notify.urls={value}"])
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        load_config(None, [f'notify.urls=["{SECRET}", 3]', "notify.urls.x=1"])
    assert SECRET not in str(caught.value)


def test_the_demo_writes_no_address_into_its_configuration(tmp_path: Path) -> None:
    text = demo_toml(tmp_path, signal=1.0, seed=1, assignments=[f"notify.urls=json://{SECRET}", "seed=3"])
    assert SECRET not in text
    assert "seed = 3" in text


# --- stages and commands -------------------------------------------------------------------------------------------


FAILED = VerifySummary(headline="FAILED: empty", passed=False, file="", base="", prompts=50, criteria=())
KEEP = EvaluateSummary(headline="keep", verdict="keep", reason="flips too often", rows=9)


def stage(name: str, outcome: StageSummary | BaseException) -> Stage:
    def work(config: Config, run: RunFolder, reporter: Reporter) -> StageSummary:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return Stage(
        name,
        name,
        ("train",),
        lambda config, run: {},
        (),
        work,
        StageSummary if isinstance(outcome, BaseException) else type(outcome),
    )


@pytest.mark.parametrize(
    ("name", "outcome", "title", "body"),
    [
        ("train", StageSummary(headline="281 steps, loss 0.4"), "training ended", "281 steps, loss 0.4"),
        ("train", InputError("no room"), "train failed", "InputError: no room"),
        ("replay", ValueError("odd"), "replay failed", "ValueError: odd"),
        ("verify", FAILED, "verification failed", "FAILED: empty"),
        ("evaluate", KEEP, "verdict: keep", "flips too often"),
    ],
)
def test_stages_tell(
    name: str, outcome: StageSummary | Exception, title: str, body: str, receiver: Receiver, tmp_path: Path
) -> None:
    config = load_config(None, [f"notify.urls={receiver.url}"])
    run = RunFolder(tmp_path / "run")
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)):
            run_stage(stage(name, outcome), config, run, SilentReporter())
    else:
        run_stage(stage(name, outcome), config, run, SilentReporter())
        run_stage(stage(name, outcome), config, run, SilentReporter())  # up to date: nothing to tell
    assert receiver.titles() == [f"candletune: {title}"]
    assert receiver.messages[0]["message"].startswith(body)
    assert str(run.path) in receiver.messages[0]["message"]
    left = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(SECRET not in text for text in left)


def test_an_interruption_is_no_failure(receiver: Receiver, tmp_path: Path) -> None:
    config = load_config(None, [f"notify.urls={receiver.url}"])
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage("train", KeyboardInterrupt()), config, RunFolder(tmp_path / "run"), SilentReporter())
    assert receiver.messages == []


def test_a_receiver_that_is_down_stops_no_stage(tmp_path: Path) -> None:
    config = load_config(None, [f"notify.urls=json://user:{SECRET}@127.0.0.1:9"])
    reporter = SilentReporter()
    outcome = run_stage(stage("train", StageSummary(headline="done")), config, RunFolder(tmp_path / "run"), reporter)
    assert outcome.summary == StageSummary(headline="done")
    assert [SECRET in line for line in reporter.warnings] == [False]


@pytest.mark.usefixtures("any_file_loads")
def test_promotion_and_rollback_tell(receiver: Receiver, tmp_path: Path) -> None:
    exported = tmp_path / "run" / "gguf" / "custom-trading-lora.gguf"
    exported.parent.mkdir(parents=True)
    exported.write_bytes(b"candidate")
    (tmp_path / "candletune.toml").write_text(f'[run]\nfolder = "run"\n[notify]\nurls = ["{receiver.url}"]\n')
    for command in (["promote", "--force", "paper account"], ["rollback", "--reason", "flips"]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--config", str(tmp_path / "candletune.toml")])
        assert caught.value.code == 0
    assert [title.split(": ")[1] for title in receiver.titles()] == ["promoted", "rolled back"]
    last = [message["message"].splitlines()[-1] for message in receiver.messages]
    assert last == ["reason: paper account", "reason: flips"]
