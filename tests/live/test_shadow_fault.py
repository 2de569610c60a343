"""A fault of the candidate is told to people, once a kind; every fault is counted for who watches by numbers."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decide import Model
from candletune.errors import InputError
from candletune.journal import Journal
from candletune.live.faults import KINDS
from candletune.live.shadow import Due, ShadowLoop
from candletune.live.signal import Trader

START = datetime(2025, 1, 1, tzinfo=UTC)
CONTEXT = {"ticker": "BTC", "price_usd": 100.0}


def missing() -> Model:
    raise InputError("missing.gguf: no such adapter")


def loop_of(folder: Path, candidate: Callable[[], Model] = missing) -> ShadowLoop:
    return ShadowLoop(
        Trader(load_config(None, [f"live.state={folder / 'active.json'}"]), engine=FakeEngine()),
        Journal(folder / "ab.jsonl"),
        candidate=candidate,
        base_sha256="b" * 64,
        emit=lambda _: None,
        reporter=SilentReporter(),
    )


def test_each_kind_of_fault_is_told_once(tmp_path: Path) -> None:
    loop = loop_of(tmp_path)
    told: list[str] = []
    loop.fault = told.append
    loop.cycle([Due(START + timedelta(hours=hour), "BTC", 100.0, CONTEXT) for hour in range(3)])
    assert len(told) == 1
    assert "missing.gguf: no such adapter" in told[0]


def test_every_fault_is_counted_in_a_file_for_prometheus(tmp_path: Path) -> None:
    loop = loop_of(tmp_path)
    loop.metrics = tmp_path / "shadow.prom"
    with loop.journal.path.open("ab") as other:
        other.write(b'{"schema":1,"timesta\nnothing\n')
    loop.cycle([Due(START, "BTC", 100.0, CONTEXT, late=True)])
    loop.cycle([Due(START + timedelta(hours=1), "BTC", 100.0, {"ticker": "BTC"})])
    loop.cycle([Due(START + timedelta(hours=2), "BTC", 100.0, CONTEXT)], behind=lambda: True)
    text = loop.metrics.read_text(encoding="utf-8")
    counted = {kind: int(count) for kind, count in re.findall(r'faults_total\{kind="(\w+)"\} (\d+)', text)}
    assert list(counted) == list(KINDS), "also those that never happened: an alert needs a number that grows"
    assert {kind: count for kind, count in counted.items() if count} == {
        "late": 1,
        "context": 1,
        "active": 1,
        "candidate_error": 2,
        "candidate_skipped": 1,
        "journal_broken": 2,
    }
    assert "candletune_rows_total 3\n" in text


def test_a_file_of_metrics_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    loop = loop_of(tmp_path)
    loop.metrics = tmp_path / "ab.jsonl" / "no folder"
    for hour in range(2):
        assert loop.cycle([Due(START + timedelta(hours=hour), "BTC", 100.0, CONTEXT)]) == 1
    assert isinstance(loop.reporter, SilentReporter)
    assert sum(text.startswith("live.metrics: ") for text in loop.reporter.warnings) == 1
