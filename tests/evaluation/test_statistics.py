"""The statistics against cases whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from candletune.evaluation.statistics import (
    Ratio,
    block_sums,
    bootstrap_difference,
    stationary_blocks,
)


def ar1(rng: np.random.Generator, rho: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    """AR(1) rows with unit variance."""
    noise = rng.normal(size=shape) * np.sqrt(1 - rho**2)
    series = np.empty(shape)
    series[:, 0] = rng.normal(size=shape[0])
    for t in range(1, shape[1]):
        series[:, t] = rho * series[:, t - 1] + noise[:, t]
    return series


def test_stationary_blocks() -> None:
    starts, lengths = stationary_blocks(1000, 8.0, 400, np.random.default_rng(3))
    assert (lengths.sum(axis=1) == 1000).all()
    assert lengths.min() >= 0
    assert starts.min() >= 0
    assert starts.max() < 1000
    # geometric lengths of mean 8; the last of each row is cut, so those before it are looked at
    whole = lengths[:, :60]
    assert whole.mean() == pytest.approx(8.0, rel=0.03)
    assert (whole == 1).mean() == pytest.approx(1 / 8, abs=0.01)
    single = stationary_blocks(50, 1.0, 3, np.random.default_rng(3))[1]
    assert (single.sum(axis=1) == 50).all()
    assert single.max() == 1


def test_sums_over_blocks_are_those_of_the_rows_they_hold() -> None:
    rng = np.random.default_rng(8)
    series = [rng.normal(size=40), rng.normal(size=40)]
    starts, lengths = stationary_blocks(40, 6.0, 25, rng)
    sums = block_sums(series, starts, lengths)
    for values, found in zip(series, sums, strict=True):
        for row in range(25):
            places = [
                (start + step) % 40 for start, n in zip(starts[row], lengths[row], strict=True) for step in range(n)
            ]
            assert len(places) == 40
            assert found[row] == pytest.approx(values[places].sum())


def test_standard_error_of_an_ar1_mean() -> None:
    """Known variance: the mean of n AR(1) values has variance (1 + rho) / (1 - rho) / n."""
    n, rho = 4000, 0.5
    errors = []
    for row in ar1(np.random.default_rng(11), rho, (20, n)):
        ratio = Ratio(row, np.ones(n))
        errors.append(bootstrap_difference(ratio, None, block=40.0, resamples=400, confidence=0.95, seed=1)[1])
    assert np.mean(errors) == pytest.approx(np.sqrt((1 + rho) / (1 - rho) / n), rel=0.06)


def test_one_side_alone() -> None:
    ratio = Ratio(np.ones(30), np.ones(30))
    interval, error = bootstrap_difference(ratio, None, block=3.0, resamples=50, confidence=0.95, seed=1)
    assert (interval.value, interval.low, interval.high, error) == (1.0, 1.0, 1.0, 0.0)


def test_signals_at_one_time_only_have_no_interval() -> None:
    """Most resamples miss the only signal, so what is left says nothing."""
    counts = np.zeros(400)
    counts[7] = 1.0
    ratio = Ratio(counts, counts)
    interval, error = bootstrap_difference(ratio, None, block=200.0, resamples=60, confidence=0.95, seed=3)
    assert interval.value == 1.0
    assert (interval.low, interval.high) == (None, None) or error == 0.0


def test_difference_of_ratios_by_hand() -> None:
    left = Ratio(np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    right = Ratio(np.array([0.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0]))
    interval, error = bootstrap_difference(left, right, block=1.0, resamples=500, confidence=0.95, seed=1)
    assert interval.value == pytest.approx(0.75 - 0.5)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= 0.25 <= interval.high
    assert error > 0


def test_no_signals_no_interval() -> None:
    nothing = Ratio(np.zeros(10), np.zeros(10))
    interval, error = bootstrap_difference(nothing, nothing, block=2.0, resamples=100, confidence=0.95, seed=1)
    assert (interval.value, interval.low, interval.high) == (None, None, None)
    assert np.isnan(error)


def test_same_seed_same_interval() -> None:
    rng = np.random.default_rng(4)
    left, right = (Ratio(rng.integers(0, 2, 300).astype(float), np.ones(300)) for _ in range(2))
    first, second = (
        bootstrap_difference(left, right, block=6.0, resamples=300, confidence=0.95, seed=9) for _ in range(2)
    )
    assert first == second


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say() -> None:
    """1,000 series of autocorrelated pairs: 95 % intervals hold the truth in 93 to 97 % of them."""
    rng = np.random.default_rng(5)
    n, rho, truth = 900, 0.5, 0.1
    left, right = ar1(rng, rho, (1000, n)) + truth, ar1(rng, rho, (1000, n))
    ones = np.ones(n)
    held = 0
    for a, b in zip(left, right, strict=True):
        interval, _ = bootstrap_difference(
            Ratio(a, ones), Ratio(b, ones), block=25.0, resamples=300, confidence=0.95, seed=int(rng.integers(2**31))
        )
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= truth <= interval.high
    assert 0.93 <= held / 1000 <= 0.97
