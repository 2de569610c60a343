"""Decision times that the training did not see: what a replay asks about."""

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from candletune.config import Config
from candletune.dataset.rows import decision_rows
from candletune.errors import InputError
from candletune.market.candles import find_candle_file


def candle_files(config: Config) -> dict[str, Path]:
    """Each configured pair's candle file.

    Raises:
        InputError: a pair has none.
    """
    return {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}


def held_out_rows(
    config: Config, train_end: datetime, test_start: datetime | None = None, *, whose: str = "the"
) -> tuple[pl.DataFrame, bool]:
    """Decision rows of the replay, and whether any of them is one the training saw (only with `replay.force`).

    Args:
        config: names range, stride and limit.
        train_end: the last time the training data looked at, its labels' horizon included.
        test_start: what the dataset kept out from on; counts where the configuration names no time.
        whose: training it was, for the refusal.

    Raises:
        InputError: the range reaches into the training data, or holds nothing.
    """
    start = config.replay.start or config.dataset.test_start or test_start
    # `train_end` is where the last outcome was known; what the dataset keeps free behind it is the embargo.
    earliest = train_end + config.candle * config.dataset.embargo
    if start is None:
        start = earliest
    forced = start < earliest
    if forced and not config.replay.force:
        raise InputError(
            f"replay.start: {start:%Y-%m-%d %H:%M} is before {earliest:%Y-%m-%d %H:%M}, the end of {whose} training "
            "data plus dataset.embargo; start later, or set replay.force=true and have every row marked"
        )
    rows = decision_rows(config, start=start, end=config.replay.end)
    if rows.is_empty():
        raise InputError(f"{config.data.folder}: no candles from {start:%Y-%m-%d} on; set dataset.test_start earlier")
    times = rows["decision_time"].unique().sort()[:: config.replay.stride]
    if config.replay.limit and len(times) > config.replay.limit:
        times = times.gather(np.linspace(0, len(times) - 1, config.replay.limit).round().astype(np.int64).tolist())
    return rows.filter(pl.col("decision_time").is_in(times.implode())), forced
