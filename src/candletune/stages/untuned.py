"""The bare base's decisions on some of a replay's rows: a baseline, no contestant."""

from pathlib import Path

import numpy as np
import polars as pl

from candletune.console import Reporter
from candletune.decide import bare_base
from candletune.files import atomic_path, remove
from candletune.stages.replay_rows import BATCH, Ask, Shard

UNTUNED_ROWS = 2000
"""Rows, evenly spread, on which the bare base is asked too when it is not the incumbent."""


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` row numbers, evenly spread, the first and the last among them."""
    if not wanted or not count:
        return []
    return sorted({round(number) for number in np.linspace(0, count - 1, min(wanted, count)).tolist()})


def ask_untuned(path: Path, ask: Ask, rows: pl.DataFrame, reporter: Reporter, *, wanted: bool) -> None:
    """The bare base's decisions (timestamp, ticker, action) on some of the rows, where it is not the incumbent."""
    if not wanted:
        remove(path)
        return
    chosen = rows[spread(len(rows), UNTUNED_ROWS)]
    prompts = chosen["prompt"].to_list()
    shards = (Shard((bare_base(),), tuple(prompts[start : start + BATCH])) for start in range(0, len(prompts), BATCH))
    actions: list[str | None] = []
    with reporter.task("replay: untuned base", len(prompts)) as task:
        for (predictions,) in ask(shards):
            actions += [prediction.action for prediction in predictions]
            task.advance(len(predictions))
    with atomic_path(path) as temporary:
        chosen.select(
            timestamp="decision_time", ticker="asset", action=pl.Series(actions, dtype=pl.String)
        ).write_parquet(temporary)
