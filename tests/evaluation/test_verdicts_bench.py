"""The bench that judges a training by its probabilities alone: how often it acts, and what becomes of a good model."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candletune.calibration import call_share


@pytest.fixture(name="with_policy")
def _with_policy(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    return import_module("verdicts").with_policy


def test_the_wanted_share_of_natural_rows_is_called_and_probabilities_come_back_to_the_base_rates(
    with_policy: Any,
) -> None:
    rng = np.random.default_rng(3)
    prior = np.array([0.16, 0.14, 0.70])
    labels = rng.choice(3, size=4000, p=prior)
    # What a model trained on balanced classes says: it knows something, and calls far too often.
    logits = rng.normal(0, 1, (4000, 3)) + 1.2 * np.eye(3)[labels]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    market = {"shares": np.full(3, 1 / 3), "prior": prior, "labels": labels}

    decided, calibrated, natural_calls = with_policy(said, said, market)

    assert call_share(said) > 0.45
    assert natural_calls == pytest.approx(0.30, abs=1 / 4000)
    assert call_share(decided) == natural_calls
    assert calibrated.mean(axis=0) == pytest.approx(np.bincount(labels, minlength=3) / 4000, abs=0.01)
    told = -np.log(calibrated[np.arange(4000), labels]).mean()
    assert told < -np.log(prior[labels]).mean()


def test_rows_besides_the_natural_ones_are_shifted_by_the_same_offsets(with_policy: Any) -> None:
    rng = np.random.default_rng(4)
    said = rng.dirichlet(np.ones(3), size=300)
    market = {"shares": np.full(3, 1 / 3), "prior": np.array([0.2, 0.2, 0.6]), "labels": rng.integers(0, 3, 300)}

    whole, _, _ = with_policy(said, said, market)
    part, _, _ = with_policy(said[:10], said, market)

    assert part == pytest.approx(whole[:10])
    ratios = np.log(whole / whole[:, 2:]) - np.log(said / said[:, 2:])
    assert ratios.std(axis=0) == pytest.approx(0, abs=1e-9)
