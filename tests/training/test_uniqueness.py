"""`train.uniqueness`: examples whose outcome windows overlap weigh less, in training and in the baselines alike."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candletune.config import load_config
from candletune.dataset import example_uniqueness
from candletune.training.examples import TokenizedExample
from candletune.training.targets import by_uniqueness

START = datetime(2024, 1, 1, tzinfo=UTC)


def sidecar(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Asset, hour and split of each example."""
    return pl.DataFrame(
        {
            "asset": [asset for asset, _, _ in rows],
            "decision_time": pl.Series([START + timedelta(hours=hour) for _, hour, _ in rows]).dt.cast_time_unit("us"),
            "split": [split for _, _, split in rows],
        }
    )


def test_only_windows_of_the_same_asset_and_split_share() -> None:
    meta = sidecar(
        ("BTC", 0, "train"), ("ETH", 0, "train"), ("BTC", 6, "train"), ("BTC", 3, "eval"), ("ETH", 40, "train")
    )
    found = example_uniqueness(load_config(None), meta)
    # Two windows of twelve hours, six of them shared: (6 + 6 / 2) / 12.
    assert found.tolist() == pytest.approx([0.75, 1.0, 0.75, 1.0, 1.0])


def test_train_weights_keep_their_mean_and_eval_weights_stay() -> None:
    meta = sidecar(("BTC", 0, "train"), ("BTC", 0, "train"), ("BTC", 90, "train"), ("BTC", 300, "eval"))
    examples = [TokenizedExample((1, 2, 3, 4), 2, 2, (20.0, 1.0)) for _ in range(len(meta))]
    scaled = by_uniqueness(examples, meta, load_config(None))
    factors = [example.weights[1] for example in scaled]
    assert factors == pytest.approx([0.75, 0.75, 1.5, 1.0])
    assert np.mean(factors[:3]) == pytest.approx(1.0)
    assert [example.weights[0] / example.weights[1] for example in scaled] == pytest.approx([20.0] * 4)
