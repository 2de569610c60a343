#!/usr/bin/env python3
"""Every stage of `candletune run` on a card of which only so much is free: wall time and peak memory of each.

Another process takes all but the given memory of the card, so that PyTorch and llama.cpp together have what a smaller
card would have. The card's use is read through nvidia-smi five times a second. Stages run in one process, as in `run`;
one that says no (a base of random weights gets no certificate) is noted, and the next is run all the same. With
`--year` a replay of every hour of a year of two coins follows, of the trained adapter against another of its shape, by
PyTorch; random weights decide nothing clearly, so that replay goes on whatever llama.cpp's control sample says; its
result is printed.

Usage: python bench/whole_run.py BASE.gguf [--gib 10] [--year] [--out FILE.json] [--set table.key=value ...]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

GIB = 2**30
SETTINGS = (
    "simulate.enabled=true",
    "dataset.per_class=400",
    "train.max_steps=20",
    "train.policy_steps=5",
    "train.eval_steps=0",
    "dataset.natural_eval=100",
    "replay.limit=250",
    "replay.reasons=10",
    "verify.prompts=50",
)
YEAR = ("replay.limit=8760", "replay.engine=torch", "replay.reasons=0")
BALLAST = """
import sys, time, torch
free, total = torch.cuda.mem_get_info()
kept = torch.empty(int(free - float(sys.argv[1]) * 2**30), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(3600)
"""


class Sampler(threading.Thread):
    """Reads the card's used memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.last, self.ended = 0.0, 0.0, False

    def run(self) -> None:
        """Keep the largest value, in GiB."""
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        command = ["nvidia-smi", "-i", card, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self.ended:
            self.last = float(subprocess.run(command, capture_output=True, text=True).stdout.split()[0]) / 1024
            self.peak = max(self.peak, self.last)
            time.sleep(0.2)


def main() -> None:
    """Run every stage and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--gib", type=float, default=10.0)
    parser.add_argument("--year", action="store_true", help="a replay of a year behind the stages")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[])
    wanted = parser.parse_args()
    ballast = subprocess.Popen([sys.executable, "-c", BALLAST, str(wanted.gib)], stdout=subprocess.PIPE, text=True)
    assert ballast.stdout is not None
    if "held" not in ballast.stdout.readline():
        raise SystemExit("the memory that is to be taken could not be had")
    sampler = Sampler()
    sampler.start()
    time.sleep(1)
    taken, sampler.peak = sampler.last, 0.0
    try:
        rows = stages(wanted, sampler, taken)
    finally:
        sampler.ended = True
        ballast.kill()
    if wanted.out:
        wanted.out.write_text(json.dumps(rows, indent=1))


def stages(wanted: argparse.Namespace, sampler: Sampler, taken: float) -> list[dict[str, object]]:
    """Each stage's wall time, peak use of the card beyond what the other process took, and what it said."""
    from candletune.artifacts import ReplaySummary
    from candletune.config import load_config
    from candletune.console import SilentReporter
    from candletune.errors import CheckFailed
    from candletune.runs import RunFolder
    from candletune.stages import STAGES, stage
    from candletune.stages.pipeline import prepare
    from candletune.stages.runner import run_stage

    class Loud(SilentReporter):
        def say(self, message: str) -> None:
            print("   ", message, flush=True)

        def warn(self, message: str) -> None:
            print("    warning:", message, flush=True)

    rows: list[dict[str, object]] = []

    def timed(name: str, title: str, config: Any, run: Any) -> None:
        sampler.peak = 0.0
        began = time.perf_counter()
        try:
            said = run_stage(stage(name), config, run, reporter).summary.headline
        except CheckFailed as refused:
            said = f"no: {refused}"
        rows.append(
            {
                "stage": title,
                "seconds": round(time.perf_counter() - began, 1),
                "peak_gib": round(max(0.0, sampler.peak - taken), 2),
                "said": said,
            }
        )
        print(json.dumps(rows[-1]), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        given = [*SETTINGS, f"base.gguf={wanted.base}", f"run.folder={scratch}/run", *wanted.set]
        config = load_config(None, given)
        run, reporter = RunFolder(config.run.folder), Loud()
        run.path.mkdir(parents=True)
        with run.lock():
            config = prepare(config, run, reporter)
            for name in STAGES:
                timed(name, name, config, run)
            if wanted.year:
                other = Path(scratch) / "other.gguf"
                weaker(run.adapter_gguf, other)
                given += [f"incumbent.adapter={other}", *YEAR]
                go_on_whatever_the_control_says()
                timed("replay", "replay of a year", prepare(load_config(None, given), run, reporter), run)
                control = run.summary(ReplaySummary).control
                rows[-1]["control"] = control and control.model_dump()
                print(json.dumps(rows[-1]), flush=True)
    return rows


def weaker(source: Path, target: Path) -> None:
    """A second adapter: the first's with halved weights."""
    import gguf

    shutil.copyfile(source, target)
    for tensor in gguf.GGUFReader(target, "r+").tensors:
        if tensor.name.endswith("lora_b"):
            tensor.data[...] *= 0.5


def go_on_whatever_the_control_says() -> None:
    """Set the share that must agree to none."""
    from candletune.stages import torch_control

    torch_control.LEAST = 0.0


if __name__ == "__main__":
    main()
