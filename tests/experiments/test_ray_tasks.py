"""A walk and a sweep on a Ray cluster, with workers that are killed, leave the files that one process leaves."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from candletune import __version__
from candletune.artifacts.sweep import Sweep
from candletune.config import load_config
from candletune.console import RecordingReporter, SilentReporter
from candletune.errors import UsageError
from candletune.experiments.sweep import run_sweep
from candletune.experiments.walk.run import walk
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare
from candletune.stages.ray_cluster import begin, connected
from candletune.stages.ray_tasks import Lost, Site, ray_tasks

SETTINGS = """
[run]
folder = "run"
[simulate]
enabled = true
years = 0.75
signal = 1
[live]
state = "live/active.json"
[dataset]
per_class = 80
natural_eval = 60
[evaluate]
resamples = 100
baselines = false
[replay]
stride = 6
reasons = 0
[walk]
model = "boosting"
incumbent = "previous"
every = "6w"
window = "10w"
start = 2022-04-01
end = 2022-09-16
[sweep]
model = "boosting"
boosting.learning_rate = [0.1, 0.03, 0.01]
boosting.max_leaf_nodes = [8, 4]
"""
FILES = ("evaluation/verdict.json", "evaluation/metrics.json", "replay/ab_test_log.jsonl", "walk.json")


def settings(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "candletune.toml"
    file.write_text(SETTINGS)
    return file


def walked(folder: Path, *assignments: str) -> dict[str, bytes]:
    """The files of a walk."""
    config = load_config(settings(folder), assignments)
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        walk(prepare(config, run, reporter), run, reporter)
    return {name: (run.walk / name).read_bytes() for name in FILES}


def swept(folder: Path, *assignments: str) -> tuple[Sweep, list[str]]:
    """A sweep without its times, and what was said of its trials."""
    file = settings(folder)
    config = load_config(file, assignments)
    run, reporter = RunFolder(config.run.folder), RecordingReporter()
    with run.lock():
        found = run_sweep(prepare(config, run, reporter), run, reporter, folder=file.parent)
    trials = tuple(trial.model_copy(update={"seconds": 0.0}) for trial in found.trials)
    said = [message for _, message in reporter.said if message.startswith("trial ")]
    return found.model_copy(update={"trials": trials, "named": ""}), said


def works(process: psutil.Process, name: str) -> bool:
    """Whether it is a worker at a task of that name, and lives."""
    try:
        return name in " ".join(process.cmdline())
    except psutil.Error:
        return False


class Killer(threading.Thread):
    """Kills workers that do tasks of a name, some time after they have begun."""

    def __init__(self, name: str, most: int) -> None:
        super().__init__(daemon=True)
        self._name, self._most, self._rng = name, most, random.Random(3)  # noqa: S311
        self.over, self.killed = threading.Event(), list[int]()

    def run(self) -> None:
        while len(self.killed) < self._most and not self.over.wait(0.05):
            found = [child for child in psutil.Process().children(recursive=True) if self._works(child)]
            if found and not self.over.wait(self._rng.uniform(0.0, 0.8)):
                child = self._rng.choice(found)
                if self._works(child):
                    child.kill()
                    self.killed.append(child.pid)

    def _works(self, process: psutil.Process) -> bool:
        return process.pid not in self.killed and works(process, self._name)

    def __enter__(self) -> "Killer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a walk in this process."""
    return walked(tmp_path_factory.mktemp("alone") / "walk")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with connected("local") as ray:
        yield ray


@pytest.mark.slow
def test_a_walk_whose_workers_are_killed_ends_with_the_same_bytes(
    cluster: Any, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """A few kills here; `bench/walk.py --kills 20 --workers 2` does twenty."""
    with Killer("ray::candletune walk", 3) as killer:
        spread = walked(tmp_path / "spread", "walk.ray=auto")
    assert len(killer.killed) == 3, "the workers were too fast to be hit"
    assert spread == alone
    assert not (tmp_path / "spread" / "run" / "walk" / ".ray").exists()


@pytest.mark.slow
def test_a_sweep_whose_workers_are_killed_names_the_same_winner(cluster: Any, tmp_path: Path) -> None:
    alone, said = swept(tmp_path / "alone")
    with Killer("ray::candletune sweep", 2) as killer:
        spread, told = swept(tmp_path / "spread", "sweep.ray=auto")
    assert len(killer.killed) == 2, "the workers were too fast to be hit"
    assert spread.trials == alone.trials and spread.winner == alone.winner
    assert told == said
    assert {trial.state for trial in alone.trials} == {"finished", "pruned"}


@pytest.mark.slow
def test_what_a_task_raises_and_what_is_lost_for_good(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("candletune.stages.ray_tasks.RETRIES", 0)
    with ray_tasks("auto", tmp_path, 1, "candletune test") as tasks:
        tasks.begin(7, os._exit, 1)
        ((number, lost),) = tasks.ended()
        assert number == 7 and isinstance(lost, Lost)
        assert "lost 1 times" in lost.reason
        tasks.begin(8, load_config, tmp_path / "missing.toml")
        with pytest.raises(UsageError, match=r"missing\.toml"):
            tasks.ended()
        assert not tasks.busy


def test_a_worker_without_the_folder_or_with_another_version_refuses(tmp_path: Path) -> None:
    (mark := tmp_path / ".ray").write_text("token")
    site = Site(__version__, Path.cwd(), mark, "token")
    site.enter()
    with pytest.raises(UsageError, match="does not see"):
        replace(site, token=site.version).enter()
    with pytest.raises(UsageError, match="does not see"):
        replace(site, mark=tmp_path / "gone" / ".ray").enter()
    with pytest.raises(UsageError, match=r"has candletune .*, 0\.0\.0 asks"):
        replace(site, version="0.0.0").enter()


class SlowToStart:
    """Stands in for the module `ray` where a cluster of this machine comes up at a later try."""

    def __init__(self, failures: int) -> None:
        self.failures, self.begun, self.ended = failures, 0, 0

    def init(self, **_: object) -> None:
        self.begun += 1
        if self.begun <= self.failures:
            raise Exception("The current node timed out during startup")

    def shutdown(self) -> None:
        self.ended += 1


@pytest.mark.parametrize(("address", "failures", "begun"), [("auto", 1, 2), ("local", 2, 2), ("10.0.0.1:6379", 1, 1)])
def test_a_cluster_of_this_machine_is_tried_twice(address: str, failures: int, begun: int) -> None:
    ray = SlowToStart(failures)
    if failures < begun:
        begin(ray, address)
    else:
        with pytest.raises(Exception, match="timed out during startup"):
            begin(ray, address)
    assert (ray.begun, ray.ended) == (begun, begun - 1)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"candletune\[ray\]"):
        walked(tmp_path / "walk", "walk.ray=auto")
    with pytest.raises(UsageError, match=r"candletune\[ray\]"):
        swept(tmp_path / "sweep", "sweep.ray=auto")


def test_a_period_is_not_spread_over_the_workers_that_periods_are_spread_over(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set one of both"):
        walked(tmp_path / "walk", "walk.ray=auto", "replay.ray=auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        signal.SIGKILL,
    ],
    ids=lambda number: number.name,
)
def test_an_interruption_ends_it_and_the_same_command_goes_on(
    cluster: Any, alone: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    """On a cluster that runs on, to which the interrupted command was one of two."""
    file = settings(tmp_path / "walk")
    address = cluster.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "candletune", "walk", "--ray", address, "--config", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "periods: train: started" in line:
            break
    else:
        pytest.fail("".join(said))
    time.sleep(0.5)
    process.send_signal(number)
    rest = process.communicate(timeout=120)[1]
    if number != signal.SIGKILL:
        assert process.returncode == 130, rest
        assert "interrupted; run the same command again to resume" in rest
    assert walked(tmp_path / "walk") == alone  # whoever goes on
    workers = psutil.Process().children(recursive=True)
    assert not [worker for worker in workers if works(worker, "ray::candletune walk")]
