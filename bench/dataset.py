#!/usr/bin/env python3
"""`candletune dataset` beside a plain row-by-row pandas program, as whole processes: time, memory, and equal output.

Usage: python bench/dataset.py DATA_FOLDER [--repeat 3] [--pairs 10 30 100] [--context all|chosen]

DATA_FOLDER holds futures/BTC_USDT_USDT-1h-futures.feather, the same of ETH, fear_greed.csv and headlines.csv. The
second part makes up hourly histories of 5 years for as many pairs as asked for and builds a dataset of 5000 a class
from them: time should grow with the candles, and memory hardly at all. `--pairs` without a number leaves it out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

PEER = Path(__file__).with_name("dataset_peer.py")
HOURS = 43_830
"""Hours in five years."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A whole process: wall and processor seconds, and its peak resident MiB."""

    seconds: float
    processor: float
    mib: float

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s  {self.processor:7.2f} s CPU  {self.mib:5.0f} MiB"


def measure(command: list[str]) -> Cost:
    """Run a command to its end; its output is shown only when it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{output.read().decode(errors='replace')}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ours(data: Path, run: Path, *settings: str) -> Cost:
    """`candletune dataset --force` with these settings."""
    named = [f"data.folder='{data}'", f"run.folder='{run}'", *settings]
    options = [part for setting in named for part in ("--set", setting)]
    empty = run.with_suffix(".toml")
    empty.touch()
    return measure([sys.executable, "-m", "candletune", "dataset", "--config", str(empty), "--force", *options])


def compare(data: Path, folder: Path, repeat: int, context: str) -> None:
    """Both programs on the same candles; their lines must be the same bytes."""
    # The peer takes both files' times as they are, and tells what was told before.
    settings = (
        f"data.fear_greed='{data / 'fear_greed.csv'}'",
        f"data.headlines='{data / 'headlines.csv'}'",
        "data.fear_greed_delay=0",
        "data.headline_delay=0",
        "data.headline_repeat_hours=0",
    )
    costs = [ours(data, folder / "ours", *settings) for _ in range(repeat)]
    seconds, processor = (median(values) for values in zip(*((c.seconds, c.processor) for c in costs), strict=True))
    mib = max(cost.mib for cost in costs)
    kept_out = json.loads((folder / "ours" / "dataset" / "manifest.json").read_text(encoding="utf-8"))["test_start"]
    options = ["--context", context, "--test-start", kept_out]
    peer = measure([sys.executable, str(PEER), str(data), str(folder / "peer.jsonl"), *options])
    mine = (folder / "ours" / "dataset" / "lora_training.jsonl").read_text(encoding="utf-8").splitlines()
    theirs = (folder / "peer.jsonl").read_text(encoding="utf-8").splitlines()
    same = sum(one == two for one, two in zip(mine, theirs, strict=True))
    print(f"row by row, pandas: {peer}  (context of {context} rows)")
    print(f"candletune:         {Cost(seconds, processor, mib)}  (median of {repeat})")
    print(f"equal lines:        {same} of {len(mine)}")
    print(f"faster:             {peer.seconds / seconds:.1f} times ({peer.processor / processor:.1f} in CPU time)")
    if same != len(mine):
        place = next(i for i, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one != two)
        raise SystemExit(f"line {place + 1} differs:\n{mine[place]}\n{theirs[place]}")


def make_up(folder: Path, pairs: int) -> None:
    """Random walks as freqtrade stores them."""
    (folder / "futures").mkdir(parents=True)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    dates = pl.datetime_range(start, start + timedelta(hours=HOURS - 1), "1h", time_unit="ms", eager=True)
    for index in range(pairs):
        rng = np.random.default_rng(index)
        close = 100 * np.exp(np.cumsum(rng.standard_t(5, HOURS) * 0.005))
        opened = np.concatenate([[100.0], close[:-1]])
        wick = np.abs(rng.normal(0, 0.002, (2, HOURS)))
        high, low = np.maximum(opened, close) * (1 + wick[0]), np.minimum(opened, close) * (1 - wick[1])
        columns = {"open": opened, "high": high, "low": low, "close": close, "volume": rng.exponential(9.0, HOURS)}
        path = folder / "futures" / f"C{index}_USDT_USDT-1h-futures.feather"
        pl.DataFrame({"date": dates, **columns}).write_ipc(path, compression="lz4")


def scale(folder: Path, counts: list[int]) -> None:
    """One dataset for each number of pairs."""
    make_up(folder / "data", max(counts))
    for count in counts:
        pairs = ", ".join(f"'C{index}/USDT:USDT'" for index in range(count))
        cost = ours(folder / "data", folder / f"run{count}", f"data.pairs=[{pairs}]", "dataset.per_class=5000")
        candles = count * HOURS
        print(
            f"{count:4d} pairs  {candles:9,d} candles  {cost}  "
            f"{cost.processor / candles * 1e6:5.2f} s CPU a million candles"
        )


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pairs", type=int, nargs="*", default=[10, 30, 100])
    parser.add_argument(
        "--context", choices=("all", "chosen"), default="all", help="rows the peer looks context up for"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.data.resolve(), Path(folder), arguments.repeat, arguments.context)
        if arguments.pairs:
            scale(Path(folder) / "scale", arguments.pairs)


if __name__ == "__main__":
    main()
