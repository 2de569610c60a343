"""A replay by workers of a Ray cluster, some of which are killed, writes the journal that one process writes."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from candletune.artifacts import ExportSummary
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.errors import InputError, UsageError
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.ray_cluster import PIECE, SharedFile, at_hand, connected
from candletune.stages.replay import replay
from candletune.stages.replay_inputs import replay_fingerprint
from candletune.stages.runner import run_stage
from fuzz.tiny_lora import tiny_lora, write_tiny_base
from simulated_run import config_of
from stage_entries import record_stage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    """A dataset, a base of random weights, and two adapters for it."""
    folder = tmp_path_factory.mktemp("ray")
    settings = ["replay.stride=4", "replay.limit=80", "replay.reasons=4", "engine.threads=1", "engine.max_tokens=8"]
    config = config_of(folder, *settings, f"base.cache={folder / 'cache'}", f"incumbent.adapter={folder / 'old.gguf'}")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        run_stage(DATASET, config, run, SilentReporter())
    record_stage(run, ExportSummary(kind="adapter"))
    run.gguf.mkdir()
    base = write_tiny_base(run.base_gguf)
    run.adapter_gguf.write_bytes(tiny_lora(base).written())
    (folder / "old.gguf").write_bytes(tiny_lora(base, seed=2).written())
    return config, run


def rows_of(config: Config, run: RunFolder, ray: str) -> list[dict[str, Any]]:
    """The journal of a new replay, and the bare base's answers."""
    run.journal.unlink(missing_ok=True)
    replay(config.model_copy(update={"replay": config.replay.model_copy(update={"ray": ray})}), run, SilentReporter())
    rows: list[dict[str, Any]] = [json.loads(line) for line in run.journal.read_text().splitlines()]
    for row in rows:
        row.pop("crc32")  # which is of the latencies, too
        for side in ("active", "shadow"):
            row[side].pop("latency_ms")
    return rows


def kill_workers(enough: threading.Event, killed: list[int], most: int) -> None:
    """Kill processes that answer, a moment after each has begun."""
    while not enough.wait(0.2) and len(killed) < most:
        for child in psutil.Process().children(recursive=True):
            try:
                if "Worker.answers" in " ".join(child.cmdline()) and child.pid not in killed:
                    time.sleep(0.3)
                    child.kill()
                    killed.append(child.pid)
                    break
            except psutil.Error:
                continue


@pytest.mark.slow
@pytest.mark.llamacpp
def test_killed_workers_change_nothing(made: tuple[Config, RunFolder], capfd: pytest.CaptureFixture[str]) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    config, run = made
    alone = rows_of(config, run, "")
    untuned = run.untuned.read_bytes()
    enough, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_workers, args=(enough, killed, 2))
    killer.start()
    try:
        with connected("local"):  # no cluster that somebody else runs here
            spread = rows_of(config, run, "auto")
    finally:
        enough.set()
        killer.join()
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""  # a result's place
    assert len(killed) == 2, "the workers were too fast to be hit"
    assert len(alone) == 160
    assert spread == alone
    assert run.untuned.read_bytes() == untuned


def test_who_works_is_no_part_of_the_fingerprint(made: tuple[Config, RunFolder]) -> None:
    config, run = made
    other = config.model_copy(update={"replay": config.replay.model_copy(update={"ray": "auto"})})
    assert replay_fingerprint(config, run, torch=False) == replay_fingerprint(other, run, torch=False)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"candletune\[ray\]"), connected("auto"):
        pass


class Reader:
    """Pieces of a file that only the asking process has."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, list[int]()

    def __call__(self, sha256: str, offset: int) -> bytes:
        self.asked.append(offset)
        return self.content[offset : offset + PIECE]


def test_a_file_is_fetched_once_a_host(tmp_path: Path) -> None:
    content = os.urandom(1000) + bytes(PIECE)
    (source := tmp_path / "base.gguf").write_bytes(content)
    file, read = SharedFile.at(source), Reader(content)
    assert at_hand(file, read, tmp_path / "cache") == source  # another path is needed on other hosts only
    source.write_bytes(b"another base, at the same path")
    fetched = at_hand(file, read, tmp_path / "cache")
    assert fetched.read_bytes() == content
    assert fetched.suffix == ".gguf"
    assert read.asked == [0, PIECE]
    assert at_hand(file, read, tmp_path / "cache") == fetched
    assert read.asked == [0, PIECE]
    fetched.write_bytes(b"cut")
    assert at_hand(file, read, tmp_path / "cache").read_bytes() == content


def test_what_is_not_what_was_asked_for_is_not_used(tmp_path: Path) -> None:
    (source := tmp_path / "base.gguf").write_bytes(b"base")
    file = SharedFile.at(source)
    source.unlink()
    with pytest.raises(InputError, match=r"base\.gguf: changed while it was sent"):
        at_hand(file, Reader(b"otherwise"), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "fetched").iterdir() if path.suffix == ".gguf"]
