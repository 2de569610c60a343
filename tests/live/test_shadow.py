"""The shadow can do no harm: the candidate's faults never reach the active answer; no candle is lost or doubled."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes import FakeEngine, sleepy

import candletune.live.watch as watch_module
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.decide import Model, model_at
from candletune.errors import InputError
from candletune.journal import Journal, read_frame, read_rows
from candletune.live.shadow import Due, ShadowLoop
from candletune.live.signal import Trader
from candletune.live.watch import due_decisions, watch
from candletune.market.simulate import simulate, to_candles

START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY = 300
"""Hours on disk at the start: enough for the 4h indicators' warm-up."""


def config_of(tmp_path: Path, *more: str) -> Config:
    return load_config(
        None,
        [
            f"run.folder={tmp_path / 'run'}",
            f"data.folder={tmp_path / 'data'}",
            f"live.state={tmp_path / 'active.json'}",
            f"live.journal={tmp_path / 'log.jsonl'}",
            *more,
        ],
    )


def context(number: int) -> dict[str, Any]:
    return {"ticker": "BTC", "price_usd": 100.0 + number, "rsi": number % 100}


def loop_of(
    config: Config, engine: FakeEngine, candidate: Callable[[], Model] | None
) -> tuple[ShadowLoop, list[bytes]]:
    said: list[bytes] = []

    def emit(answer: Mapping[str, Any]) -> None:
        said.append(json.dumps(answer, sort_keys=True).encode())

    def none() -> Model:
        raise InputError("no candidate")

    loop = ShadowLoop(
        Trader(config, engine=engine),
        Journal(config.live.journal),
        candidate=candidate or none,
        base_sha256="0" * 64,
        emit=emit,
        reporter=SilentReporter(),
    )
    return loop, said


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory, random_base: Path) -> Model:
    tmp_path = tmp_path_factory.mktemp("candidate")
    from adapters import make_adapter
    from candletune.gguf.adapter import write_adapter
    from candletune.gguf.peft import read_adapter
    from candletune.model_shape import read_shape

    shape = read_shape(random_base)
    folder = make_adapter(random_base, tmp_path / "peft")
    path = tmp_path / "candidate.gguf"
    write_adapter(read_adapter(folder, shape), shape, path, number_format="F32", manifest={}, name="c")
    return model_at(path)


def boom() -> None:
    raise RuntimeError("decode failed")


def out_of_memory() -> None:
    raise MemoryError


def die() -> None:
    raise SystemExit(139)


def missing() -> Model:
    raise InputError("candidate.gguf: no such adapter")


FAULTS: dict[str, str] = {
    "missing file": "error",
    "crash": "error",
    "out of memory": "error",
    "garbage": "invalid",
    "slow": "ok",
    "behind": "skipped",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_candidate_changes_no_active_answer(fault: str, tmp_path: Path, candidate: Model) -> None:
    """1,000 cycles, with the fault and without any candidate: the active answers are byte-equal."""
    due = [Due(START + timedelta(hours=n), "BTC", 100.0 + n, context(n)) for n in range(1000)]
    quiet, expected = loop_of(config_of(tmp_path / "quiet"), FakeEngine(), None)
    for item in due:
        quiet.cycle([item])
    engine = FakeEngine()
    engine.fault = {"crash": boom, "out of memory": out_of_memory, "slow": sleepy}.get(fault)
    engine.garbage = fault == "garbage"
    loop, said = loop_of(
        config_of(tmp_path / "faulty"), engine, missing if fault == "missing file" else lambda: candidate
    )
    for item in due:
        loop.cycle([item], behind=lambda: fault == "behind")
    assert said == expected
    rows = list(read_rows(tmp_path / "faulty" / "log.jsonl"))
    assert len(rows) == 1000
    assert {row["shadow"]["status"] for row in rows} == {FAULTS[fault]}
    assert {row["active"]["status"] for row in rows} == {"ok"}
    assert all(row["shadow"]["action"] is None for row in rows if row["shadow"]["status"] != "ok")


def test_active_answers_come_before_the_candidate_is_asked(tmp_path: Path, candidate: Model) -> None:
    engine = FakeEngine()
    loop, said = loop_of(config_of(tmp_path), engine, lambda: candidate)
    asked: list[int] = []
    engine.fault = lambda: asked.append(len(said))
    loop.cycle([Due(START, ticker, 100.0, context(1) | {"ticker": ticker}) for ticker in ("BTC", "ETH")])
    assert asked
    assert min(asked) == 2, "the candidate was asked before every active answer was out"


def write_candles(folder: Path, hours: int) -> None:
    """The first `hours` candles of both pairs, as freqtrade would have them on disk by then."""
    (folder / "futures").mkdir(parents=True, exist_ok=True)
    for index, (pair, price) in enumerate((("BTC", 30_000.0), ("ETH", 2_000.0))):
        candles = to_candles(simulate((5, index), 700, 0.5), start=START, price=price, seed=(5, index))
        target = folder / "futures" / f"{pair}_USDT_USDT-1h-futures.feather"
        temporary = target.with_suffix(".tmp")
        candles[:hours].write_ipc(temporary, compression="lz4")
        temporary.replace(target)


def test_500_candles_with_a_restart_in_the_middle(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    hours = HISTORY
    write_candles(tmp_path / "data", hours)
    now = START + timedelta(hours=hours)

    def fresh() -> ShadowLoop:
        return loop_of(config, FakeEngine(), None)[0]

    loop = fresh()
    for step in range(250):
        if step == 125:
            loop = fresh()  # the process was restarted
        write_candles(tmp_path / "data", hours + step)
        assert watch(config, loop, once=True, clock=lambda: now + timedelta(hours=step, seconds=30)) == 2  # noqa: B023
        assert watch(config, loop, once=True, clock=lambda: now + timedelta(hours=step, seconds=50)) == 0  # noqa: B023
    rows = read_frame(tmp_path / "log.jsonl")
    assert len(rows) == 500
    for ticker in ("BTC", "ETH"):
        times = rows.filter(pl.col("ticker") == ticker)["timestamp"]
        assert times.diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]
    assert not rows["late"].any()


def test_missed_candles_are_caught_up_and_marked_late(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY)
    loop = loop_of(config, FakeEngine(), None)[0]
    now = START + timedelta(hours=HISTORY, seconds=30)
    assert watch(config, loop, once=True, clock=lambda: now) == 2
    write_candles(tmp_path / "data", HISTORY + 5)
    later = now + timedelta(hours=5)
    due = due_decisions(config, loop.journal, later)
    assert [item.late for item in due if item.ticker == "BTC"] == [True, True, True, True, False]
    assert watch(config, loop, once=True, clock=lambda: later) == 10


def test_an_unclosed_candle_is_never_used(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY + 1)
    loop = loop_of(config, FakeEngine(), None)[0]
    now = START + timedelta(hours=HISTORY, minutes=30)  # the file already holds the candle that is still open
    due = due_decisions(config, loop.journal, now)
    assert {item.timestamp for item in due} == {START + timedelta(hours=HISTORY)}


def test_stale_files_are_said_once(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY)
    loop = loop_of(config, FakeEngine(), None)[0]
    looks = iter([False, False, True])
    watch(
        config,
        loop,
        clock=lambda: START + timedelta(hours=HISTORY + 20),
        stop=lambda: next(looks),
        pause=lambda _: None,
    )
    assert isinstance(loop.reporter, SilentReporter)
    assert sum("keep the folder current" in text for text in loop.reporter.warnings) == 1


def test_a_candle_that_was_open_when_the_file_was_written_waits_for_the_next_write(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY + 1)
    closes = START + timedelta(hours=HISTORY + 1)
    files = list((tmp_path / "data" / "futures").iterdir())
    for path in files:
        os.utime(path, ((closes - timedelta(minutes=10)).timestamp(),) * 2)
    loop = loop_of(config, FakeEngine(), None)[0]
    now = closes + timedelta(seconds=30)
    assert {item.timestamp for item in due_decisions(config, loop.journal, now)} == {closes - timedelta(hours=1)}
    for path in files:
        os.utime(path, (now.timestamp(),) * 2)
    assert {item.timestamp for item in due_decisions(config, loop.journal, now)} == {closes}


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY)
    now = START + timedelta(hours=HISTORY, minutes=1)
    for path in (tmp_path / "data" / "futures").iterdir():
        os.utime(path, (now.timestamp() - 1,) * 2)
    loop = loop_of(config, FakeEngine(), None)[0]
    looked: list[int] = []
    real = watch_module.due_decisions

    def look(*arguments: Any) -> list[Due]:
        looked.append(1)
        return real(*arguments)

    monkeypatch.setattr(watch_module, "due_decisions", look)
    passed = iter(range(100))

    def wait(_: float) -> None:
        if next(passed) == 2:
            write_candles(tmp_path / "data", HISTORY)

    assert watch(config, loop, clock=lambda: now, stop=lambda: next(passed) > 8, pause=wait) == 2
    assert 1 <= len(looked) <= 3


def test_a_candidate_that_ends_the_process_costs_one_row(tmp_path: Path, candidate: Model) -> None:
    config = config_of(tmp_path)
    engine = FakeEngine()
    engine.fault = die
    due = [Due(START + timedelta(hours=n), "BTC", 100.0, context(n)) for n in range(3)]
    first, said = loop_of(config, engine, lambda: candidate)
    with pytest.raises(SystemExit):
        first.cycle(due[:1])
    assert len(said) == 1, "the active answer was out before the candidate was asked"
    engine.fault = None
    again, repeated = loop_of(config, engine, lambda: candidate)
    for item in due:
        assert again.cycle([item]) == 1
    assert repeated[0] == said[0]
    rows = list(read_rows(config.live.journal))
    assert [row["shadow"]["status"] for row in rows] == ["error", "ok", "ok"]
    assert "process ended" in (rows[0]["shadow"]["error"] or "")
    assert not config.live.journal.with_name("log.jsonl.asking").exists()


def test_stopping_logs_what_was_answered(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'data.context_timeframes=["4h"]')
    write_candles(tmp_path / "data", HISTORY)
    loop, said = loop_of(config, FakeEngine(), None)
    now = START + timedelta(hours=HISTORY, seconds=30)
    assert watch(config, loop, clock=lambda: now, stop=lambda: True) == len(said) == 2
    assert {row["shadow"]["status"] for row in read_rows(config.live.journal)} == {"skipped"}
