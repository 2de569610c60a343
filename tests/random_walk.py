"""Small simulated histories, and the settings to build a dataset from them."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

START = datetime(2024, 1, 1, tzinfo=UTC)


def walk(seed: int, rows: int) -> pl.DataFrame:
    """Hourly candles of a random walk of 0.8 % an hour."""
    rng = random.Random(seed)  # noqa: S311
    closes = [100.0]
    for _ in range(rows - 1):
        closes.append(round(closes[-1] * math.exp(rng.gauss(0, 0.008)), 4))
    dates = pl.datetime_range(START, START + timedelta(hours=rows - 1), "1h", time_unit="us", eager=True)
    close = pl.Series(closes)
    opened = close.shift(1).fill_null(closes[0])
    high, low = pl.select(pl.max_horizontal(close, opened), pl.min_horizontal(close, opened).alias("low")).get_columns()
    return pl.DataFrame(
        {
            "date": dates,
            "open": opened,
            "high": high,
            "low": low,
            "close": close,
            "volume": pl.repeat(1.0, rows, eager=True),
        }
    )


def write_walks(folder: Path, **rows: int) -> Path:
    """A walk of so many rows for each name, in files as freqtrade names them; returns the folder."""
    for seed, (name, count) in enumerate(rows.items()):
        walk(seed, count).write_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather")
    return folder


def config_of(folder: Path, run: Path, *more: str) -> Config:
    """A small dataset from the candles in `folder`, everything below `run`."""
    named = [f"data.folder='{folder}'", f"run.folder='{run}'", "dataset.per_class=60", "dataset.natural_eval=40"]
    return load_config(None, [*named, *more])


class Listener(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def built(config: Config) -> tuple[RunFolder, Listener]:
    """The dataset stage's run folder and what was said."""
    run, reporter = RunFolder(config.run.folder), Listener()
    run_stage(STAGE, prepare(config, run, reporter), run, reporter)
    return run, reporter
