"""Every line that comes in gets a JSON answer, and the next line is read."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine
from programs import run_program, settings

import candletune.live.lines as lines_module
from candletune.artifacts import LiveState, ServedModel
from candletune.commands.live import signal
from candletune.commands.shadow import shadow
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decide import bare_base
from candletune.journal import Journal, read_frame
from candletune.live.lines import read_lines
from candletune.live.shadow import ShadowLoop
from candletune.live.signal import Trader, answer_text
from candletune.web.serve import STATUS

GOOD: dict[str, Any] = {"ticker": "BTC", "price_usd": 100.0, "rsi": 40}
DIGITS = "1" + "0" * 400


def with_key(text: str) -> bytes:
    return f'{{"ticker": "BTC", "price_usd": 100.0, {text}}}'.encode()


HOSTILE: dict[str, bytes] = {
    "a number of 400 digits": with_key(f'"macd_hist": {DIGITS}'),
    "a price of 400 digits": f'{{"ticker": "BTC", "price_usd": {DIGITS}}}'.encode(),
    "a number of 5,000 digits": with_key(f'"rsi": 1{"0" * 5000}'),
    "digits in quotes": with_key(f'"rsi": "{DIGITS}"'),
    "60,000 brackets": b"[" * 60_000,
    "60,000 braces": b'{"a":' * 60_000,
    "a value nested 900 deep": with_key(f'"headlines": {"[" * 900}{"]" * 900}'),
    "an override of 5,000 characters": with_key(f'"_lora_override": "{"x" * 5000}"'),
    "an override of nobody's home": with_key('"_lora_override": "~nouser/x"'),
    "an override with a NUL": with_key('"_lora_override": "a\\u0000b"'),
    "half a character as override": with_key('"_lora_override": "\\ud800"'),
    "half a character as ticker": b'{"ticker": "\\ud800", "price_usd": 3}',
    "bytes that are no UTF-8": b'{"ticker": "BTC\xff", "price_usd": 3}',
    "NULs": b"\0" * 50,
    "a year before all others": b'{"ticker": 1, "price_usd": 3, "timestamp": "0001-01-01T00:00:00+14:00"}',
    "a list": b"[1]",
    "no JSON": b"nonsense",
}


def sent(good: bytes) -> bytes:
    return b"".join(line + b"\n" + good + b"\n" for line in HOSTILE.values())


def test_signal_serve_answers_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _ = run_program(
        signal, [*settings(tmp_path), "--serve"], sent(json.dumps(GOOD).encode()), monkeypatch, tmp_path
    )
    assert [answer["status"] for answer in answers] == ["error", "ok"] * len(HOSTILE)
    assert all(len(answer["error"]) <= lines_module.MAX_ERROR for answer in answers[::2])
    assert not [answer for answer in answers[::2] if "internal error" in answer["error"]]


def test_shadow_stdin_answers_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamped = [
        json.dumps(GOOD | {"timestamp": f"2025-01-0{1 + n // 24}T{n % 24:02}:00:00Z"}).encode() for n in range(40)
    ]
    text = b"".join(bad + b"\n" + good + b"\n" for bad, good in zip(HOSTILE.values(), stamped, strict=False))
    answers, _ = run_program(shadow, [*settings(tmp_path), "--stdin"], text, monkeypatch, tmp_path)
    assert [answer["status"] for answer in answers] == ["error", "ok"] * len(HOSTILE)
    assert not [answer for answer in answers[::2] if "internal error" in answer["error"]]
    rows = read_frame(tmp_path / "log.jsonl")
    assert (rows["active_status"] == "ok").sum() == len(HOSTILE)


def test_what_no_code_foresaw_is_an_answer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trader = Trader(load_config(None, settings(tmp_path)), engine=FakeEngine())
    monkeypatch.setattr(trader, "predict", lambda *_, **__: (_ for _ in ()).throw(KeyError("\ud800 surprise")))
    answer, code = answer_text(trader, json.dumps(GOOD))
    assert (code, answer["status"]) == (1, "error")
    assert "internal error: KeyError" in str(answer.get("error"))
    json.dumps(answer, ensure_ascii=False).encode()


def test_a_line_without_end_is_cut_and_the_next_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 10)
    given = BytesIO(b"x" * 35 + b"\nshort\n\n" + b"y" * 10 + b"\n" + b"z" * 11)
    assert list(read_lines(given)) == [b"x" * 11, b"short\n", b"y" * 10 + b"\n", b"z" * 11]


def test_an_override_never_answers_for_the_active_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the row said `active` and held another model's answer."""
    asked = json.dumps(GOOD | {"_lora_override": "base", "timestamp": "2025-01-01T00:00:00Z"})
    (answer,), _ = run_program(shadow, [*settings(tmp_path), "--stdin"], asked + "\n", monkeypatch, tmp_path)
    assert answer["status"] == "error"
    assert "the shadow loop asks the active model and the candidate" in answer["error"]
    assert read_frame(tmp_path / "log.jsonl").is_empty()


def test_the_loop_goes_on_when_the_disk_refuses_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime, timedelta

    from candletune.errors import InputError
    from candletune.live.shadow import Due

    reporter = SilentReporter()
    said: list[Any] = []
    loop = ShadowLoop(
        Trader(load_config(None, settings(tmp_path)), engine=FakeEngine()),
        Journal(tmp_path / "log.jsonl"),
        candidate=bare_base,
        base_sha256="0" * 64,
        emit=said.append,
        reporter=reporter,
    )
    start = datetime(2025, 1, 1, tzinfo=UTC)
    due = [Due(start + timedelta(hours=n), "BTC", 1.0, GOOD) for n in range(3)]
    append = loop.journal.append
    refused = iter([True, False, False])

    def full_once(row: Any) -> None:
        if next(refused):
            raise InputError("log.jsonl: cannot append (No space left on device)")
        append(row)

    monkeypatch.setattr(loop.journal, "append", full_once)
    assert (loop.cycle(due), loop.unlogged, len(said)) == (2, 1, 3)
    assert any("could not be logged" in text for text in reporter.warnings)
    monkeypatch.undo()
    assert loop.cycle(due) == 1, "the refused row is due again"


@pytest.mark.parametrize("fault", ["gone", "broken", "model gone"])
def test_a_state_file_that_is_gone_or_broken_is_nobodys_request(fault: str, tmp_path: Path) -> None:
    """Before, the configured incumbent acted without a word, or the client was told that its context was wrong."""
    config = load_config(None, settings(tmp_path))
    acting = ServedModel(
        name="bare base", kind="base", path=None, adapter_sha256=None, since="2026-01-01T00:00:00+00:00"
    )
    LiveState(active=acting).write(config.live.state)
    trader = Trader(config, engine=FakeEngine())
    assert answer_text(trader, json.dumps(GOOD))[1] == 0
    if fault == "gone":
        config.live.state.unlink()
    elif fault == "broken":
        config.live.state.write_text("{")
    else:
        other = acting.model_copy(update={"kind": "adapter", "path": "adapters/a.gguf", "adapter_sha256": "f" * 64})
        LiveState(active=other).write(config.live.state)
    answer, code = answer_text(trader, json.dumps(GOOD))
    assert (answer["status"], STATUS[code]) == ("error", 503)
    assert "active.json" in str(answer.get("error"))
    assert answer_text(trader, "nonsense")[1] == 3
    LiveState(active=acting).write(config.live.state)
    assert answer_text(trader, json.dumps(GOOD))[1] == 0
