"""A million journal rows: how long does `evaluate` take, and how much memory?

    python bench/evaluate.py --rows 1000000

Writes random-walk candles of 20 coins and a journal of two models that guess, then evaluates them in a process of its
own, with baselines, intervals and controls, and prints seconds and peak memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from candletune.config import Config, load_config
from candletune.console import RichReporter, SilentReporter
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.runner import run_stage

COINS = 20
START = datetime(2015, 1, 1, tzinfo=UTC)
WARM = 24 * 90
"""Hours of candles before the journal begins, for the dataset."""


def config_of(folder: Path, hours: int) -> Config:
    """The benchmark's market and run folder."""
    pairs = [f"C{number}/USDT:USDT" for number in range(COINS)]
    return load_config(
        None,
        [
            f"run.folder={folder / 'run'}",
            f"data.folder={folder}",
            f"data.pairs={json.dumps(pairs)}",
            f"dataset.test_start={(START + timedelta(hours=WARM)).isoformat()}",
            "dataset.natural_eval=50",
            f"evaluate.journal={folder / 'ab_test_log.jsonl'}",
        ],
    )


def write_market(folder: Path, hours: int) -> None:
    """Candles of every coin, and the journal over their last `hours` hours."""
    rng = np.random.default_rng(1)
    total = WARM + hours
    for number in range(COINS):
        close = 100 * np.exp(rng.normal(0, 0.006, total).cumsum())
        spread = close * np.abs(rng.normal(0, 0.002, total))
        frame = pl.DataFrame(
            {
                "date": pl.datetime_range(START, START + timedelta(hours=total - 1), "1h", eager=True, time_unit="ms"),
                "open": close - spread / 3,
                "high": close + spread,
                "low": close - spread,
                "close": close,
                "volume": rng.random(total) + 1,
            }
        )
        frame.write_ipc(folder / f"C{number}_USDT_USDT-1h-futures.feather")
    _write_journal(folder / "ab_test_log.jsonl", hours, rng)


def _write_journal(path: Path, hours: int, rng: np.random.Generator) -> None:
    names = np.array(["BUY", "SELL", "HOLD"])
    hashes = '"prompt_sha256":"p","template_sha256":"t","base_sha256":"b"'
    with path.open("w") as stream:
        for hour in range(hours):
            # Decision times are closes: an hour after the candle's opening.
            time_ = (START + timedelta(hours=WARM + hour + 1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            said = names[rng.integers(0, 3, (COINS, 2))]
            for number in range(COINS):
                sides = [_side(said[number, k], "ac"[k]) for k in range(2)]
                stream.write(
                    f'{{"schema":1,"timestamp":"{time_}","ticker":"C{number}","price":100.0,"mode":"shadow",'
                    f'"late":false,"forced":false,{hashes},"active":{sides[0]},"shadow":{sides[1]}}}\n'
                )


def _side(action: str, adapter: str) -> str:
    chances = '{"BUY":0.3,"SELL":0.3,"HOLD":0.4}'
    return (
        f'{{"action":"{action}","status":"ok","reasoning":null,"probabilities":{chances},"latency_ms":12.5,'
        f'"adapter_sha256":"{adapter}","error":null}}'
    )


def evaluate(folder: Path, hours: int) -> None:
    """The measured process."""
    from candletune.stages.evaluate import STAGE

    config = config_of(folder, hours)
    start = time.monotonic()
    run_stage(STAGE, config, RunFolder(config.run.folder), RichReporter(), force=True)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{hours * COINS:,} rows: {seconds:.1f} s, {peak:.2f} GiB at most")


def main() -> None:
    """Prepare, then measure in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="of an earlier call's preparation")
    given = parser.parse_args()
    hours = given.rows // COINS
    if given.folder is not None:
        evaluate(given.folder, hours)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_market(folder, hours)
        config = config_of(folder, hours)
        run_stage(DATASET, config, RunFolder(config.run.folder), SilentReporter())
        size = (folder / "ab_test_log.jsonl").stat().st_size / 1024**2
        print(f"prepared: a journal of {size:,.0f} MiB", flush=True)
        command = [sys.executable, __file__, "--rows", str(given.rows), "--folder", str(folder)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
