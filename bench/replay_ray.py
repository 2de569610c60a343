#!/usr/bin/env python3
"""A replay by workers of a Ray cluster on this machine against one process: throughput, and workers that are killed.

    candletune run --config CANDLETUNE.toml              # up to the export, at least
    python bench/replay_ray.py --config CANDLETUNE.toml --out /tmp/ray --workers 2 --workers 4 --kills 20

Replays the run's decision times in one process with one thread, then by so many workers with one thread each; then
again while workers are killed at random. Every journal must be the first one's, but for latencies and the checksums
over them.
"""

import argparse
import json
import logging
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import ray

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare
from candletune.stages.replay import replay


def rows_of(config: Config, run: RunFolder, how: str, *, cluster: str) -> list[dict[str, Any]]:
    """The rows of a new replay."""
    tables = {
        "replay": config.replay.model_copy(update={"ray": cluster, "engine": "llama.cpp"}),
        "engine": config.engine.model_copy(update={"threads": 1}),
    }
    run.journal.unlink(missing_ok=True)
    began = time.monotonic()
    replay(config.model_copy(update=tables), run, SilentReporter())
    took = time.monotonic() - began
    rows: list[dict[str, Any]] = [json.loads(line) for line in run.journal.read_text().splitlines()]
    print(f"{how}: {len(rows)} rows in {took:.0f} s, {len(rows) / took:.1f} a second", flush=True)
    for row in rows:
        del row["crc32"]
        for side in ("active", "shadow"):
            del row[side]["latency_ms"]
    return rows


class Killer(threading.Thread):
    """Kills a worker at random, so many times."""

    def __init__(self, times: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._left, self._rng = times, random.Random(seed)  # noqa: S311
        self.killed, self.over = 0, threading.Event()

    def run(self) -> None:
        """Until there were enough, or it is over."""
        while self.killed < self._left and not self.over.wait(self._rng.uniform(1.0, 4.0)):
            found = [child for child in psutil.Process().children(recursive=True) if _works(child)]
            if found:
                self._rng.choice(found).kill()
                self.killed += 1


def _works(process: psutil.Process) -> bool:
    try:
        return "Worker.answers" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="new folder for a copy of the run")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, action="append", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    config = load_config(wanted.config, wanted.assignments)
    shutil.copytree(config.run.folder, wanted.out)
    config = config.model_copy(update={"run": config.run.model_copy(update={"folder": wanted.out})})
    run = RunFolder(wanted.out)
    config = prepare(config, run, SilentReporter())
    first = rows_of(config, run, "one process, one thread", cluster="")
    for workers in wanted.workers:
        for kills in (0, wanted.kills):
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            killer = Killer(kills, wanted.seed)
            killer.start()
            rows = rows_of(config, run, f"{workers} workers, {kills} kills wanted", cluster="auto")
            killer.over.set()
            killer.join()
            ray.shutdown()
            print(f"  {killer.killed} killed; {'same rows' if rows == first else 'OTHER ROWS'}", flush=True)


if __name__ == "__main__":
    main()
