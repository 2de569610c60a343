"""Does training again pay where the market turns over, is noise left alone, and does a killed walk end the same?

    python bench/walk.py --seeds 10 --folder runs/walk-bench
    python bench/walk.py --seeds 3 --model llm --folder runs/walk-bench-tiny
    python bench/walk.py --kills 20 --folder runs/walk-kills
    python bench/walk.py --kills 20 --workers 2 --folder runs/walk-ray

The first two walk simulated markets that turn over half-way (`simulate.turn`), with signal and without, and print a row
a market: balanced accuracy and verdict of walking against a single training before the first period. On noise the walk
is also held against the fixed incumbent. The third kills a walk of four periods at random moments, again and again, and
compares its verdict's bytes with an undisturbed one's. A second call resumes. The fourth has a Ray cluster of so many
workers on this machine do the walk, kills workers instead, and says how long walks took.
"""

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from candletune.artifacts import Metrics, Verdict
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.experiments.walk.run import walk
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare

MARKET = (
    "simulate.enabled=true",
    "simulate.years=2",
    "simulate.turn=0.5",
    "walk.every=2mo",
    "walk.window=4mo",
    "dataset.per_class=300",
    "replay.stride=3",
    "evaluate.baselines=false",
    "evaluate.resamples=200",
)
TINY = (
    "base.model=tiny",
    "train.max_steps=40",
    "train.effective_batch=16",
    "train.eval_steps=0",
    "train.policy_steps=5",
    "train.learning_rate=5e-3",
    "train.gradient_checkpointing=false",
    "train.optimizer=adamw_torch",
    "verify.rows=20",
    "verify.prompts=10",
    "replay.stride=24",
    "replay.reasons=1",
    "engine.threads=1",
    "engine.max_tokens=48",
)
KILLED = (
    "simulate.enabled=true",
    "simulate.years=0.75",
    "simulate.signal=1",
    "dataset.per_class=80",
    "dataset.natural_eval=60",
    "evaluate.resamples=100",
    "replay.stride=3",
    "walk.every=6w",
    "walk.window=10w",
    "walk.start=2022-04-01",
    "walk.incumbent=first",
)


@dataclass(frozen=True)
class Found:
    """What one walk came to: balanced accuracies, BUY/SELL accuracies, and the verdict."""

    balanced: float | None
    single: float | None
    right: float | None
    single_right: float | None
    verdict: str


def settings(folder: Path, model: str, *more: str) -> Config:
    """Of one walk, everything below a folder."""
    places = (f"run.folder={folder / 'run'}", f"live.state={folder / 'live' / 'active.json'}", f"walk.model={model}")
    return load_config(None, [*places, *more])


def one(config: Config) -> Found:
    """Walk and read what was found."""
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        walk(prepare(config, run, reporter), run, reporter)
    own = RunFolder(run.walk)
    metrics, verdict = Metrics.read(own.metrics), Verdict.read(own.verdict)
    return Found(
        metrics.shadow.balanced_accuracy,
        metrics.active.balanced_accuracy,
        metrics.shadow.accuracy_signals,
        metrics.active.accuracy_signals,
        verdict.verdict,
    )


def market(folder: Path, seed: int, signal: float, model: str, incumbent: str, more: list[str]) -> Found:
    """One simulated market; what was found before is read."""
    kept = folder / f"{signal:g}-{seed}-{incumbent}.json"
    if kept.exists():
        return Found(**json.loads(kept.read_text()))
    config = settings(
        folder / f"{signal:g}-{seed}",
        model,
        *MARKET,
        *(TINY if model == "llm" else ()),
        f"seed={seed}",
        f"simulate.signal={signal}",
        f"walk.incumbent={incumbent}",
        f"evaluate.ledger={folder / f'{signal:g}-{seed}-{incumbent}.jsonl'}",
        *more,
    )
    found = one(config)
    kept.write_text(json.dumps(vars(found)))
    return found


def markets(folder: Path, seeds: int, model: str, more: list[str]) -> None:
    """Every seed, and the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    print("| signal | seed | incumbent | balanced | incumbent's | BUY/SELL right | incumbent's | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    better = promoted = 0
    for seed in range(1, seeds + 1):
        for signal, incumbent in ((1.0, "first"), (0.0, "first"), (0.0, "fixed")):
            found = market(folder, seed, signal, model, incumbent, more)
            shown = [
                "-" if value is None else f"{value:.3f}"
                for value in (found.balanced, found.single, found.right, found.single_right)
            ]
            print(f"| {signal:g} | {seed} | {incumbent} | {' | '.join(shown)} | {found.verdict} |", flush=True)
            better += signal > 0 and (found.balanced or 0.0) > (found.single or 0.0)
            promoted += signal == 0 and found.verdict == "promote"
    print(f"\nwith signal, training again beats a single training in balanced accuracy: {better} of {seeds}")
    print(f"without signal, promoted: {promoted} of {2 * seeds} verdicts")


def kills(folder: Path, count: int, longest: float, more: list[str]) -> None:
    """Kill a walk at random moments until it has been hit often enough; compare with an undisturbed one."""
    calm = settings(folder / "calm", "boosting", *KILLED, *more)
    one(calm)
    rough = folder / f"rough-{time.time_ns()}"
    chosen = [
        f"run.folder={rough / 'run'}",
        f"live.state={rough / 'live' / 'active.json'}",
        "walk.model=boosting",
        *KILLED,
        *more,
    ]
    command = [sys.executable, "-m", "candletune", "walk", *(part for one in chosen for part in ("--set", one))]
    rng, hit, finished, least = random.Random(1), 0, 0, 1.0  # noqa: S311
    while hit < count:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(least, longest))
            finished += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit += 1
        if finished:  # begin anew, so that every part of a walk is hit
            check(rough, folder / "calm", hit)
            subprocess.run(["rm", "-rf", str(rough)], check=True)
            finished = 0
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check(rough, folder / "calm", hit)


class Killer(threading.Thread):
    """Kills a worker of Ray at random, so many times."""

    def __init__(self, times: int, longest: float) -> None:
        super().__init__(daemon=True)
        self._left, self._longest, self._rng = times, longest, random.Random(1)  # noqa: S311
        self.killed, self.over = 0, threading.Event()

    def run(self) -> None:
        """Until there were enough, or it is over."""
        while self.killed < self._left and not self.over.wait(self._rng.uniform(0.0, self._longest)):
            found = [child for child in psutil.Process().children(recursive=True) if _works(child)]
            if found:
                self._rng.choice(found).kill()
                self.killed += 1


def _works(process: psutil.Process) -> bool:
    try:
        return "ray::candletune walk" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill_workers(folder: Path, count: int, workers: int, longest: float, more: list[str]) -> None:
    """Walks by workers of Ray: undisturbed, and killed until that happened often enough."""
    import ray

    def timed(name: str, *own: str) -> float:
        began = time.monotonic()
        one(settings(folder / name, "boosting", *KILLED, *more, *own))
        return time.monotonic() - began

    print(f"one process: {timed('calm'):.0f} s", flush=True)
    began = time.monotonic()
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    ray.init(
        address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    print(f"starting Ray: {time.monotonic() - began:.0f} s", flush=True)
    stamp = time.time_ns()
    for name in (f"first-{stamp}", f"second-{stamp}"):  # the first one's workers have to import everything
        print(f"{workers} workers: {timed(name, 'walk.ray=auto'):.0f} s", flush=True)
        check(folder / name, folder / "calm", 0)
    killer, walks = Killer(count, longest), 0
    killer.start()
    while killer.killed < count:
        walks += 1
        took = timed(f"rough-{stamp}-{walks}", "walk.ray=auto")
        print(f"{workers} workers, walk {walks}: {took:.0f} s", flush=True)
        check(folder / f"rough-{stamp}-{walks}", folder / "calm", killer.killed)
    ray.shutdown()


def check(rough: Path, calm: Path, hit: int) -> None:
    """Both ended with the same bytes."""
    for name in ("evaluation/verdict.json", "replay/ab_test_log.jsonl", "evaluation/metrics.json", "walk.json"):
        one, other = ((place / "run" / "walk" / name).read_bytes() for place in (rough, calm))
        assert one == other, f"{name}: differs behind {hit} kills"
    print(f"behind {hit} kills: the same verdict, journal, metrics and periods, byte for byte", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--model", choices=["boosting", "llm"], default="boosting")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="kill workers of a Ray cluster of so many, not the walk")
    parser.add_argument("--longest", type=float, default=12.0, help="seconds until a kill, at most")
    parser.add_argument("--folder", type=Path, default=Path("runs/walk-bench"))
    parser.add_argument("--set", dest="more", action="append", default=[], help="further settings")
    given = parser.parse_args()
    if given.workers:
        kill_workers(given.folder.absolute(), given.kills, given.workers, given.longest, given.more)
    elif given.kills:
        kills(given.folder.absolute(), given.kills, given.longest, given.more)
    else:
        markets(given.folder.absolute(), given.seeds, given.model, given.more)


if __name__ == "__main__":
    main()
