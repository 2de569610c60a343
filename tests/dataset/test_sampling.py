"""The choice in bounded memory is the plain one: all rows in one table, ranked by one permutation."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import draw_sample, sampling, survey
from candletune.dataset.pairs import load_timeframes
from candletune.dataset.sampling import split_counts
from candletune.fields.columns import indicator_rows
from candletune.labels import label_candles

START = datetime(2024, 1, 1, tzinfo=UTC)
WAIT = timedelta(hours=24)
"""The default horizon and embargo."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs that begin and end at different times, one with a hole."""
    folder = tmp_path_factory.mktemp("candles")
    for seed, (name, first, rows) in enumerate((("ETH", 0, 2500), ("BTC", 300, 2600), ("ADA", 90, 1500))):
        rng = random.Random(seed)  # noqa: S311
        closes = [100.0]
        while len(closes) < rows:
            closes.append(closes[-1] * math.exp(rng.gauss(0, 0.008)))
        close = pl.Series(closes)
        dates = [START + timedelta(hours=first + hour) for hour in range(rows)]
        frame = pl.DataFrame({"date": dates, "open": close, "high": close, "low": close, "close": close, "volume": 1.0})
        frame = frame.with_columns(pl.col("date").dt.cast_time_unit("us"))
        frame.filter(~pl.int_range(pl.len()).is_between(700, 740) | pl.lit(name != "BTC")).write_ipc(
            folder / f"{name}_USDT_USDT-1h-futures.feather"
        )
    return folder


def plain_choice(config: Config) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Chosen and natural rows from one table of all rows, as the rule is written in the docs."""
    frames = []
    for pair in config.data.pairs:
        for timeframe, hours in (("1h", 1), ("4h", 4)):
            if timeframe in config.timeframes:
                candles = load_timeframes(config, pair).of(timeframe)
                rule = config.labels.model_copy(update={"horizon": 12 // hours, "volatility_window": 168 // hours})
                labels = label_candles(candles.frame, rule, 60 * hours).drop_nulls("label")
                times = indicator_rows(candles).select("asset", "decision_time", timeframe=pl.lit(timeframe))
                frames.append(times.join(labels, on="decision_time"))
    time = pl.col("decision_time")
    rows = pl.concat(frames).sort("decision_time", "asset", "timeframe")
    if config.dataset.test_start is not None:
        rows = rows.filter(time < config.dataset.test_start - WAIT)
    if config.dataset.train_start is not None:
        rows = rows.filter(time >= config.dataset.train_start)
    key = np.random.default_rng(config.seed).permutation(len(rows))
    rows = rows.with_columns(key=pl.Series(key))
    if config.labels.shuffle:
        rows = rows.with_columns(rows["label"].gather(key), rows["forward_return"].gather(key))
    if config.dataset.split == "random":
        evaluation = pl.col("key") < round(len(rows) * config.dataset.eval_fraction)
        train = ~evaluation
    else:
        boundary = rows["decision_time"][round(len(rows) * (1 - config.dataset.eval_fraction))]
        evaluation, train = time >= boundary, time < boundary - WAIT
    rows = rows.with_columns(split=pl.when(evaluation).then(pl.lit("eval")).when(train).then(pl.lit("train")))
    held_out = rows.filter(split="eval")
    picked = np.random.default_rng(config.seed + 1).choice(
        len(held_out), min(config.dataset.natural_eval, len(held_out)), replace=False
    )
    least = {split: min(rows.filter(split=split)["label"].value_counts()["count"]) for split in ("train", "eval")}
    take = split_counts(config.dataset.per_class, config.dataset.eval_fraction, least["train"], least["eval"])
    chosen = []
    for split, count in take.items():
        for label in ("BUY", "SELL", "HOLD"):
            part = rows.filter(split=split, label=label)
            rank = pl.col("key").rank("ordinal").over("asset", time.dt.strftime("%Y-%m"))
            chosen.append(part.with_columns(rank=rank).sort("rank", "key").head(count).drop("rank"))
    return pl.concat(chosen).sort("decision_time", "asset", "timeframe").drop("key"), held_out[np.sort(picked)].drop(
        "key"
    )


@pytest.mark.parametrize("pool", [1, 700, 200_000])
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["dataset.per_class=7", "seed=3"],
        ["dataset.per_class=5000"],
        ["dataset.split=random"],
        ["labels.shuffle=true"],
        ["labels.shuffle=true", "dataset.split=random"],
        ["dataset.train_start=2024-02-01", "dataset.test_start=2024-04-01"],
        ["labels.method=volatility", "dataset.eval_fraction=0.3"],
        ["dataset.timeframes=['1h', '4h']", "dataset.per_class=300"],
        ["dataset.timeframes=['1h', '4h']", "labels.method=volatility", "labels.shuffle=true"],
    ],
    ids=str,
)
def test_the_choice_is_the_plain_one(folder: Path, more: list[str], pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "POOL", pool)
    pairs = "data.pairs=['ETH/USDT:USDT', 'BTC/USDT:USDT', 'ADA/USDT:USDT']"
    config = load_config(
        None, [f"data.folder='{folder}'", pairs, "dataset.per_class=60", "dataset.natural_eval=50", *more]
    )
    found = draw_sample(config, survey(config, SilentReporter()), SilentReporter())
    for mine, plain in zip((found.chosen, found.natural), plain_choice(config), strict=True):
        texts = mine.with_columns(pl.col("asset", "timeframe", "label", "split").cast(pl.String))
        assert texts.equals(plain.select(texts.columns))
