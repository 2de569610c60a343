"""A walk as tasks of a Ray cluster on this machine, whose workers are killed: the same bytes as one process writes."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import UsageError
from candletune.experiments.cluster import connect
from candletune.experiments.walk.on_ray import on_ray
from candletune.experiments.walk.run import walk
from candletune.experiments.walk.spread import Spread, one_by_one
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare

SETTINGS = (
    "simulate.enabled=true",
    "simulate.years=0.6",
    "simulate.signal=1",
    "dataset.per_class=80",
    "dataset.natural_eval=60",
    "evaluate.resamples=100",
    "evaluate.baselines=false",
    "replay.stride=3",
    "walk.model=boosting",
    "walk.incumbent=first",
    "walk.every=4w",
    "walk.start=2022-05-01",
    "walk.end=2022-07-24",
)
WALKED = ("evaluation/verdict.json", "evaluation/metrics.json", "replay/ab_test_log.jsonl", "walk.json")


def go(folder: Path, spread: Spread) -> RunFolder:
    config: Config = load_config(
        None, [f"run.folder={folder / 'run'}", f"live.state={folder / 'live' / 'active.json'}", *SETTINGS]
    )
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        walk(prepare(config, run, reporter), run, reporter, spread=spread)
    return RunFolder(run.walk)


def kill_workers(until: threading.Event, killed: list[int], most: int) -> None:
    """Kill processes that work on a fold, a moment after each has begun."""
    own = psutil.Process(os.getpid())
    while not until.is_set() and len(killed) < most:
        time.sleep(0.3)
        for child in own.children(recursive=True):
            try:
                if "_work" in " ".join(child.cmdline()) and child.pid not in killed:
                    child.kill()
                    killed.append(child.pid)
                    break
            except psutil.Error:
                continue


@pytest.mark.slow
def test_killed_workers_change_nothing(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    alone = go(tmp_path / "alone", one_by_one)
    done, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_workers, args=(done, killed, 2))
    killer.start()
    try:
        spread = go(tmp_path / "ray", on_ray("local"))
    finally:
        done.set()
        killer.join()
        ray.shutdown()
    assert killed, "the tasks were too fast to be hit"
    for name in WALKED:
        assert (spread.path / name).read_bytes() == (alone.path / name).read_bytes(), name


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"candletune\[ray\]"):
        connect("auto")
