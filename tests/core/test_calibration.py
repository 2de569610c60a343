"""Calibration, corrections of class shares, and how often a model calls."""

import numpy as np
import pytest
from numpy.typing import NDArray

from candletune.calibration import (
    Calibration,
    call_offset,
    call_share,
    correct_prior,
    earned_by_calls,
    fit_calibration,
    prior_offsets,
    shares_of,
)

Floats = NDArray[np.float64]


def drawn(rows: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes and outcomes that follow them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (rows, 3)) + np.array([-0.7, -0.7, 0.8])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    outcomes = (rng.random(rows)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    return probabilities, np.minimum(outcomes, 2)


def expected_error(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean distance between what was said of each class and how often it happened, over tenths."""
    errors = []
    for k in range(3):
        bins = np.minimum((probabilities[:, k] * 10).astype(int), 9)
        errors += [
            abs(probabilities[bins == b, k].mean() - (outcomes[bins == b] == k).mean()) * (bins == b).mean()
            for b in set(bins.tolist())
        ]
    return float(sum(errors) / 3)


def test_what_a_policy_added_is_taken_back() -> None:
    """A model whose odds were shifted and sharpened; fitted on one half, scored on the other."""
    true, outcomes = drawn(8000)
    said = Calibration(temperature=1 / 1.8, offsets=(1.5, 1.5, 0.0)).apply(true)
    fitted = fit_calibration(said[:4000], outcomes[:4000], known=(-1.0, -1.0, 0.0))
    assert fitted.temperature == pytest.approx(1.8, rel=0.1)
    assert expected_error(said[4000:], outcomes[4000:]) > 0.08
    assert expected_error(fitted.apply(said[4000:]), outcomes[4000:]) < 0.02


def test_few_rows_stay_near_what_is_known() -> None:
    """Thirty rows without a single SELL: an offset of minus infinity would fit them best."""
    said = np.tile([0.3, 0.3, 0.4], (30, 1))
    fitted = fit_calibration(said, np.array([0] * 8 + [2] * 22), known=(-0.5, -0.5, 0.0))
    assert -4 < fitted.offsets[1] < -0.5
    assert fitted.apply(said)[0, 1] > 0.005


def test_exact_probabilities_are_left_alone() -> None:
    true, outcomes = drawn(20_000)
    fitted = fit_calibration(true, outcomes)
    assert np.abs(fitted.apply(true) - true).max() < 0.03


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 30"):
        fit_calibration(np.full((29, 3), 1 / 3), np.zeros(29, dtype=np.int64))


def test_prior_correction_is_bayes() -> None:
    found = correct_prior(np.array([0.3, 0.5, 0.2]), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.1, 0.8))
    assert found == pytest.approx([0.03 / 0.24, 0.05 / 0.24, 0.16 / 0.24])
    back = Calibration(offsets=prior_offsets((0.1, 0.1, 0.8), (1 / 3, 1 / 3, 1 / 3))).apply(found)
    assert back == pytest.approx([0.3, 0.5, 0.2])


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_an_offset_gives_the_wanted_share_of_calls(wanted: float) -> None:
    probabilities, _ = drawn(400)
    shift = call_offset(probabilities, wanted)
    assert call_share(Calibration(offsets=(shift, shift, 0.0)).apply(probabilities)) == pytest.approx(wanted)


def calling(calls: int, rows: int) -> Floats:
    """Probabilities of which the first `calls` say BUY, the others HOLD."""
    buys = np.arange(rows) < calls
    return np.where(buys[:, None], [[0.8, 0.1, 0.1]], [[0.1, 0.1, 0.8]])


def earning(*values: float) -> Floats:
    """What a BUY earns, row by row."""
    return np.array([[value, -value, 0.0] for value in values])


def test_what_calls_earned_is_counted_in_errors_of_days() -> None:
    said, gains = calling(4, 8), earning(1, 1, 1, 1, -1, -1, -1, -1)
    assert earned_by_calls(said, gains, np.arange(8)) == pytest.approx(2.0)
    assert earned_by_calls(said, gains, np.arange(8) // 2) == pytest.approx(4 / 8**0.5)
    assert earned_by_calls(said, gains, np.zeros(8, dtype=np.int64)) == pytest.approx(1.0)
    assert earned_by_calls(said[:, [1, 0, 2]], gains, np.arange(8)) == pytest.approx(-2.0)


def test_a_model_that_never_calls_earned_nothing() -> None:
    assert earned_by_calls(calling(0, 5), earning(-1, -1, -1, -1, -1), np.arange(5)) == 0.0


@pytest.mark.parametrize("value", [[0.5, 0.5, 0.0], [1.0, 1.0], {"BUY": 1, "SELL": 1, "HOLD": float("nan")}])
def test_class_shares_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="three positive"):
        shares_of(value)


def test_class_shares_by_name_and_in_order() -> None:
    assert shares_of({"HOLD": 2, "BUY": 1, "SELL": 1}) == (0.25, 0.25, 0.5)
    assert shares_of(None) is None
