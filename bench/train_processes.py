#!/usr/bin/env python3
"""Training in two and three gloo processes against one process's, with kills, on the packaged tiny base.

    python bench/train_processes.py --out /tmp/processes

Trains once in one process and once in two under `torchrun`; then kills one of two (each of both, under `torchrun` and
under `train.gpus`), and lets one process and three go on from what was left. Prints, for each training, how far its
losses, adapter and checkpoint files are from one process's, and for each kill how long the others lived.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

SETTINGS = """
[run]
folder = "run"
[base]
model = "tiny"
[simulate]
enabled = true
years = 0.6
[dataset]
per_class = 60
test_start = 2022-06-01
natural_eval = 60
[train]
backend = "fast"
device = "cpu"
max_steps = 12
policy_steps = 0
effective_batch = 8
batch_size = 2
save_steps = 3
eval_steps = 0
learning_rate = 1e-3
optimizer = "adamw_torch"
vram_gib = 1.0
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def start(folder: Path, *before: str, gpus: int = 1) -> "subprocess.Popen[bytes]":
    """`candletune train` in a folder, behind a launcher."""
    command = [sys.executable, *before, "-m", "candletune", "train", "--no-preflight"]
    command += ["--config", str(folder / "candletune.toml"), "--set", f"train.gpus={gpus}"]
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=said, stderr=said)


def done(folder: Path, process: "subprocess.Popen[bytes]") -> Path:
    """The folder of a training that ended well."""
    if process.wait(600):
        sys.exit((folder / "said.txt").read_text()[-3000:])
    return folder


def losses(folder: Path) -> list[float]:
    """Those of a training so far."""
    path = folder / "run" / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [row["loss"] for line in lines if line.endswith("\n") and "loss" in (row := json.loads(line))]


def killed(folder: Path, process: "subprocess.Popen[bytes]", number: int) -> str:
    """Kill one of the processes after five steps; what came of it."""
    while len(losses(folder)) < 5:
        if process.poll() is not None:
            sys.exit((folder / "said.txt").read_text()[-3000:])
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    victim = next(child for child in family if child.environ().get("RANK") == str(number))
    victim.kill()
    began = time.monotonic()
    process.wait(600)
    psutil.wait_procs(family, timeout=600)
    lines = [line for line in (folder / "said.txt").read_text().splitlines() if "SIGKILL" in line or "ended (" in line]
    return f"all gone after {time.monotonic() - began:.1f} s: {' '.join(lines[-1].split())[:150]}"


def apart(one: Path, other: Path) -> str:
    """How far two files of a training are from each other."""
    if one.read_bytes() == other.read_bytes():
        return "same bytes"
    if one.suffix == ".safetensors":
        return _apart(load_file(one), load_file(other))
    if one.suffix == ".pt":
        return _apart(*(torch.load(path, weights_only=True) for path in (one, other)))
    if one.suffix == ".json":
        return _apart(json.loads(one.read_text()), json.loads(other.read_text()))
    return f"{one.stat().st_size} and {other.stat().st_size} bytes, other content"


def _apart(one: Any, other: Any) -> str:
    gaps: list[float] = []
    keys: list[str] = []
    _compare(one, other, "", gaps, keys)
    text = f"largest gap {max(gaps):.1e}" if gaps else "numbers the same"
    return text + (f"; different: {', '.join(sorted(set(keys)))}" if keys else "")


def _compare(one: Any, other: Any, name: str, gaps: list[float], keys: list[str]) -> None:
    if isinstance(one, torch.Tensor) and one.is_floating_point():
        gaps.append((one.double() - other.double()).abs().max().item())
    elif isinstance(one, float):
        gaps.append(abs(one - other))
    elif isinstance(one, dict) and one.keys() == other.keys():
        for key, value in one.items():
            _compare(value, other[key], str(key), gaps, keys)
    elif isinstance(one, list) and len(one) == len(other):
        for a, b in zip(one, other, strict=True):
            _compare(a, b, name, gaps, keys)
    elif not (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other):
        keys.append(name)


def report(name: str, one: Path, other: Path) -> None:
    """A training against one process's."""
    pairs = list(zip(losses(one), losses(other), strict=True))
    print(f"\n{name}: {len(pairs)} losses, largest relative gap {max(abs(a - b) / a for a, b in pairs):.1e}")
    for path in sorted((one / "run").rglob("*")):
        part = path.relative_to(one / "run")
        if path.is_file() and ("adapter" in part.parts or "checkpoint-12" in part.parts):
            print(f"  {part}: {apart(path, other / 'run' / part)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    made = out / "made"
    made.mkdir(parents=True)
    (made / "candletune.toml").write_text(SETTINGS)
    for stage in ("base", "dataset"):
        command = [sys.executable, "-m", "candletune", stage, "--config", str(made / "candletune.toml")]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    one, two = (shutil.copytree(made, out / name) for name in ("one", "two"))
    done(one, start(one))
    report("two under torchrun", one, done(two, start(two, *TORCHRUN, "2")))
    for number in range(2):
        folder = shutil.copytree(made, out / f"torchrun-{number}")
        print(f"\ntorchrun, process {number} killed:", killed(folder, start(folder, *TORCHRUN, "2"), number))
        folder = shutil.copytree(made, out / f"own-{number}")
        print(f"train.gpus=2, process {number} killed:", killed(folder, start(folder, gpus=2), number))
    on = out / "own-1"
    report("two, one killed, one process goes on", one, done(on, start(on)))
    on = out / "torchrun-1"
    report("two, one killed, three go on", one, done(on, start(on, *TORCHRUN, "3")))


if __name__ == "__main__":
    main()
