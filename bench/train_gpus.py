#!/usr/bin/env python3
"""Steps a second of one training shared by several GPUs of this host, against one GPU, with the same effective batch.

Each row is a training of its own, from a fresh adapter, over the same examples in the same order: in one process with
the memory plan it chooses by itself, in one with the micro-batch that the processes of a shared one have (its losses
are comparable, since the masks of dropout belong to a micro-batch), and in several under `torchrun`. The step is
candletune's: LoRA weights out, gradients back, added in the processes' order, AdamW in the first process. Prints a
table and writes gpus.json.

BASE is a GGUF (`python bench/random_blocks.py FILE` writes one of the 8B shape), DATA a file of
`bench/recipes.py prepare`, whose ids must lie within the base's vocabulary.

Usage: python bench/train_gpus.py BASE.gguf DATA.npz [--processes 2] [--batch 32] [--steps 12] [--out FOLDER]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from recipes import examples

WARM_UP = 3


def settings(wanted: argparse.Namespace) -> Any:
    """The training's: rank 8 on q and v, as the plan has it."""
    from candletune.config import TrainConfig

    return TrainConfig(
        backend="fast",
        device=wanted.device,
        effective_batch=wanted.batch,
        batch_size=wanted.micro_batch,
        quantization="gguf",
        optimizer="adamw_torch",
    )


def work(wanted: argparse.Namespace) -> None:
    """One of the processes; the first prints what it measured."""
    from candletune.training.fast.seats import taken_seat

    seat = taken_seat()
    if seat is not None and seat.number:
        from candletune.config import load_config
        from candletune.training.fast.following import follow

        follow(seat, load_config(None, [f"train.device={wanted.device}"]), lambda text: print(text, file=sys.stderr))
        return
    import torch

    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine

    config, rows = settings(wanted), examples(dict(np.load(wanted.data)), 20.0)
    rows = rows[: wanted.batch * (WARM_UP + wanted.steps)]
    began = time.perf_counter()
    model = load_model(wanted.base, config, wanted.device, 0).train()
    engine = open_engine(model, EngineSetup(config, rows, 0, lambda text: print(text, file=sys.stderr)))
    loaded = time.perf_counter() - began
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    torch.manual_seed(0)
    seconds, launched, losses = [], [], []
    for start in range(0, len(rows), wanted.batch):
        began = time.perf_counter()
        total, weight = engine.loss(rows[start : start + wanted.batch])
        launched.append(time.perf_counter() - began)  # the device is still at work
        torch.autograd.backward(total / weight)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total) / weight)  # waits for the device
        seconds.append(time.perf_counter() - began)
    found = {
        "processes": 1 if seat is None else seat.count,
        "device": torch.cuda.get_device_name() if wanted.device == "cuda" else wanted.device,
        "plan": engine.plan.describe(),
        "micro_batch": engine.plan.micro_batch,
        "step_s": round(statistics.median(seconds[WARM_UP:]), 4),
        "spread_s": [round(value, 4) for value in (min(seconds[WARM_UP:]), max(seconds[WARM_UP:]))],
        "launch_s": round(statistics.median(launched[WARM_UP:]), 4),
        "first_step_s": round(seconds[0], 2),
        "load_s": round(loaded, 1),
        "tokens": round(statistics.mean(len(row.ids) for row in rows) * wanted.batch),
        "losses": losses,
    }
    if wanted.device == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    engine.close()
    print(json.dumps(found), flush=True)


def run(wanted: argparse.Namespace, processes: int, micro_batch: int) -> dict[str, Any]:
    """One row, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), __file__, str(wanted.base), str(wanted.data)]
    command += ["--work", "--batch", str(wanted.batch), "--steps", str(wanted.steps), "--device", wanted.device]
    done = subprocess.run([*command, "--micro-batch", str(micro_batch)], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{processes} processes: {done.stdout[-1500:]}{done.stderr[-3000:]}")
    row: dict[str, Any] = json.loads(lines[-1])
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Measure each row, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--micro-batch", type=int, default=0, help="examples a pass of each process; 0: the plan's")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.work:
        work(wanted)
        return
    wanted.out.mkdir(parents=True, exist_ok=True)
    shared = run(wanted, wanted.processes, wanted.micro_batch)
    alike = run(wanted, 1, shared["micro_batch"])
    free = run(wanted, 1, 0)
    (wanted.out / "gpus.json").write_text(json.dumps([free, alike, shared], indent=1))
    print("| processes | micro-batch | s / step (range) | steps of one process | largest relative gap of a loss |")
    print("| --- | --- | --- | --- | --- |")
    for row in (free, alike, shared):
        low, high = row["spread_s"]
        gap = max(abs(a - b) / b for a, b in zip(row["losses"], alike["losses"], strict=True))
        faster = min(free["step_s"], alike["step_s"]) / row["step_s"]
        same = f"{gap:.1e}" if row["micro_batch"] == alike["micro_batch"] else "other masks"
        print(
            f"| {row['processes']} | {row['micro_batch']} | {row['step_s']:.4f} ({low:.4f} to {high:.4f}) "
            f"| {faster:.2f} | {same} |"
        )


if __name__ == "__main__":
    main()
