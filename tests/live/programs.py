"""Commands over an engine without a model, in this process."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import FakeEngine

import candletune.live.signal as signal_module
from candletune.live.signal import Trader


def settings(tmp_path: Path, *more: str) -> list[str]:
    return [
        f"run.folder={tmp_path / 'run'}",
        f"data.folder={tmp_path / 'data'}",
        'data.pairs=["BTC/USDT:USDT"]',
        f"live.state={tmp_path / 'live' / 'active.json'}",
        f"live.journal={tmp_path / 'log.jsonl'}",
        *more,
    ]


def run_program(
    command: Any, options: list[str], sent: str | bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[list[dict[str, Any]], str]:
    """A command over an engine without a model: its answers and what it said."""
    gguf = tmp_path / "run" / "gguf"
    gguf.mkdir(parents=True, exist_ok=True)
    (gguf / "base.gguf").write_bytes(b"base")
    (tmp_path / "candletune.toml").touch()
    monkeypatch.setattr("signal.signal", lambda *_: None)  # SIGTERM stays the test run's own
    monkeypatch.setattr(signal_module, "Trader", lambda config, **more: Trader(config, engine=FakeEngine(), **more))
    assignments = [part for value in options if "=" in value for part in ("--set", value)]
    flags = [value for value in options if "=" not in value]
    arguments = ["--config", str(tmp_path / "candletune.toml"), *assignments, *flags]
    done = CliRunner().invoke(command, arguments, input=sent, catch_exceptions=False)
    return [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")], done.stderr
