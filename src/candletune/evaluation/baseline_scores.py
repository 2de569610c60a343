"""Each baseline's metrics on the scored rows, and the candidate's lead over it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import DatasetManifest
from candletune.artifacts.metrics import BaselineMetrics, Comparison
from candletune.calibration import shares_of
from candletune.config import Config
from candletune.dataset import example_uniqueness, load_pair, read_examples, stands_for
from candletune.evaluation.baselines import HOLD, SILENT, Ints, Task, baseline_actions
from candletune.evaluation.beaten import UNTUNED
from candletune.evaluation.leads import compare_baselines
from candletune.evaluation.metrics import CLASS_INDEX
from candletune.evaluation.told import with_headlines
from candletune.fields.columns import indicator_rows
from candletune.runs import RunFolder


def measure_baselines(
    config: Config, run: RunFolder, scored: pl.DataFrame, comparison: Comparison
) -> dict[str, BaselineMetrics]:
    """Every baseline on the scored rows that have an outcome and indicators.

    Args:
        config: names candles, limits and seed.
        run: whose dataset trained the candidate, and whose replay asked the untuned base.
        scored: see `outcomes.score_rows`, in time order.
        comparison: of the two models on these rows: how their windows overlap.
    """
    rows = comparable_rows(config, scored)
    if rows.is_empty():
        return {}
    actions = baseline_actions(task_of(config, run, rows))
    if config.evaluate.journal is None and run.untuned.exists():
        actions[UNTUNED] = untuned_actions(rows, pl.read_parquet(run.untuned))
    overlap = comparison.overlap
    return compare_baselines(rows, actions, config.evaluate, block=comparison.block, seed=config.seed, overlap=overlap)


def comparable_rows(config: Config, scored: pl.DataFrame) -> pl.DataFrame:
    """The scored rows that have an outcome and indicators, with these; what else a row carries is kept.

    Args:
        config: names candles.
        scored: see `outcomes.score_rows`, in time order.
    """
    known = scored.filter(pl.col("forward_return").is_not_null())
    indicators = pl.concat([indicator_rows(load_pair(config, pair)) for pair in config.data.pairs])
    numbers = with_headlines(indicators, config)
    kept = ("timestamp", "ticker", "forward_return", "past_return", "shadow_acts", "shadow_correct", "period")
    return known.select(name for name in kept if name in known.columns).join(
        numbers,
        left_on=("timestamp", "ticker"),
        right_on=("decision_time", "asset"),
        how="inner",
        maintain_order="left",
    )


def task_of(config: Config, run: RunFolder, rows: pl.DataFrame) -> Task:
    """What a baseline decides from: the run's examples, and rows to be decided.

    Args:
        config: names threshold, seed and how often a candidate is taught to call.
        run: holds the dataset.
        rows: with the fields' candle columns and `close`.
    """
    train = read_examples(run).meta.filter(pl.col("split") == "train")
    classes = train["label"].cast(pl.String).replace_strict(CLASS_INDEX, return_dtype=pl.Int64)
    manifest = DatasetManifest.read(run.dataset_manifest)
    natural = shares_of(manifest.natural_prior)
    return Task(
        rows,
        train,
        classes.to_numpy(),
        stands_for(train, manifest.candidates.by_month) * _own_share(config, train),
        threshold=config.labels.threshold,
        held_out=pl.read_parquet(run.natural_eval),
        natural=natural,
        calls=_calls(config, natural),
        seed=config.seed,
    )


def _own_share(config: Config, train: pl.DataFrame) -> NDArray[np.float64] | float:
    """What `train.uniqueness` weighs the candidate's examples by, for the baselines too."""
    return example_uniqueness(config, train) if config.train.uniqueness else 1.0


def _calls(config: Config, natural: Sequence[float] | None) -> float | None:
    """The share of calls that the candidate is taught (see `candletune.training.policy`)."""
    if not config.train.policy_steps or natural is None:
        return None
    return sum(natural[:HOLD]) if config.train.call_share is None else config.train.call_share


def untuned_actions(rows: pl.DataFrame, answers: pl.DataFrame) -> Ints:
    """The bare base's decisions on the rows it was asked about; SILENT on the others."""
    actions = rows.join(answers, on=("timestamp", "ticker"), how="left", maintain_order="left")["action"]
    return actions.replace_strict(CLASS_INDEX, return_dtype=pl.Int64).fill_null(SILENT).to_numpy()
