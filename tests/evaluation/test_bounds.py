"""Errors, effective size and bounds against cases whose answer is known."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from candletune.evaluation.bounds import (
    Estimate,
    boundary,
    days_needed,
    difference,
    effective_size,
    estimate,
    from_terms,
    grid_of,
    month_error,
    one_look,
    window_error,
)
from candletune.evaluation.statistics import Ratio

Floats = NDArray[np.float64]


def ar1(rng: np.random.Generator, rho: float, shape: tuple[int, int]) -> Floats:
    """AR(1) rows with unit variance."""
    noise = rng.normal(size=shape) * np.sqrt(1 - rho**2)
    series = np.empty(shape)
    series[:, 0] = rng.normal(size=shape[0])
    for t in range(1, shape[1]):
        series[:, t] = rho * series[:, t - 1] + noise[:, t]
    return series


def moving_sums(rng: np.random.Generator, count: int, length: int = 12) -> Floats:
    """Sums over `length` of white noise, as windows that overlap."""
    level = rng.normal(size=count + length).cumsum()
    found: Floats = level[length:] - level[:-length]
    return found


def hours(count: int) -> Floats:
    return np.linspace(0.0, count - 1.0, count)


def mean_of(values: Floats, overlap: int, days: float | None = None) -> Estimate:
    elapsed = np.arange(len(values)) / 24 if days is None else np.linspace(0, days, len(values))
    found = estimate(Ratio(values, np.ones(len(values))), grid_of(elapsed, overlap))
    assert found is not None
    return found


@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_effective_size_of_an_ar1_series(rho: float) -> None:
    """n (1 - rho) / (1 + rho), the classic result for the mean of an AR(1) series."""
    n = 6000
    rows = ar1(np.random.default_rng(1), rho, (60, n))
    found = np.array([mean_of(row, 5).effective for row in rows])
    # What is estimated without bias is the inflation n / found, so that is averaged.
    assert 1 / np.mean(1 / found) == pytest.approx(n * (1 - rho) / (1 + rho), rel=0.08)


def test_effective_size_of_overlapping_windows() -> None:
    """A moving sum over 12 of white noise is worth about a twelfth of its length."""
    found = [mean_of(moving_sums(np.random.default_rng(seed), 12 * 600), 11).effective for seed in range(20)]
    assert np.mean(found) == pytest.approx(600, rel=0.1)


def test_effective_size_does_not_jump() -> None:
    """It used to go from 19.9 to 49.6 at twenty windows: below, windows were counted; above, the series was asked."""
    noise = np.random.default_rng(3).normal(size=12 * 40)
    sizes = [mean_of(noise[:count] - noise[:count].mean(), 11).effective for count in range(12 * 15, 12 * 25)]
    assert max(abs(after / before - 1) for before, after in pairwise(sizes)) < 0.25
    assert sizes[0] > 15  # independent hours are worth more than the windows that lie side by side
    assert sizes[-1] > sizes[0]


def test_effective_size_edges() -> None:
    assert effective_size(np.array([]), 5, math.inf, 0) == 0.0
    assert effective_size(np.zeros(48), 11, 0.0, 3) == 4  # nothing varies: only windows side by side count
    assert effective_size(np.array([1.0, -1.0]), 5, math.inf, 0) == pytest.approx(2 / 6)
    assert mean_of(np.tile([1.0, -1.0], 500), 0).effective <= 1000  # negative dependence never counts for more


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_window_error_of_an_ar1_mean(rho: float) -> None:
    """Known variance: the mean of n AR(1) values has variance (1 + rho) / (1 - rho) / n."""
    n = 6000
    errors = [window_error(row - row.mean(), 5)[0] ** 2 for row in ar1(np.random.default_rng(11), rho, (40, n))]
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.sqrt((1 + rho) / (1 - rho) / n), rel=0.06)


def test_too_little_for_an_error() -> None:
    assert window_error(np.ones(23), 11) == (math.inf, 0)
    assert month_error(np.array([]), grid_of(np.array([]), 0)) == (math.inf, 0)
    assert month_error(np.zeros(10), grid_of(hours(10), 0)) == (math.inf, 1)
    short = mean_of(hours(12), 11)
    assert short.interval(0.95).bounds is None
    assert short.within(2.0).bounds is None
    assert estimate(Ratio(np.zeros(9), np.zeros(9)), grid_of(hours(9), 0)) is None
    something = Ratio(np.ones(9), np.ones(9))
    assert difference(something, Ratio(np.zeros(9), np.zeros(9)), grid_of(hours(9), 0)) is None


def test_stretches_are_equal_and_at_least_a_month() -> None:
    grid = grid_of(np.arange(100 * 24) / 24, 11)
    assert (grid.months, grid.stretch.max()) == (3, 2)
    sizes = np.bincount(grid.stretch)
    assert sizes.max() - sizes.min() <= 1
    # a gap in the journal leaves a month with fewer decisions, not a shorter month
    gap = grid_of(np.concatenate([np.arange(0, 10, 0.5), np.arange(80, 91, 0.5)]), 0)
    assert np.bincount(gap.stretch, minlength=3).tolist() == [20, 0, 22]


def test_months_see_what_windows_do_not() -> None:
    """Skill that comes and goes every month: hours are independent given the month, months are not given the year."""
    rng = np.random.default_rng(4)
    months = np.repeat(rng.normal(size=12), 30 * 24)
    terms = months - months.mean() + rng.normal(size=len(months))
    found = from_terms(0.0, terms, len(months), grid_of(np.linspace(0, 360, len(months)), 11))
    assert found.months > 2 * found.windows
    assert found.reach(2.0) > 3 * found.windows


def test_intervals_cover_as_often_as_they_say() -> None:
    """A month of hourly windows that overlap: 95 % intervals hold the truth in 93.5 to 96.5 % of 2,000 series."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        bounds = mean_of(moving_sums(rng, 720), 11).interval(0.95).bounds
        assert bounds is not None
        held += bounds[0] <= 0 <= bounds[1]
    assert 0.935 <= held / 2000 <= 0.965


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.005])
def test_the_bound_holds_at_every_look(alpha: float) -> None:
    """A random walk without drift, looked at every day for eight years, passes it once in 1 / alpha at most."""
    rng = np.random.default_rng(6)
    days = 8 * 365
    factors = np.array([boundary(float(day), 365.0, alpha) for day in range(1, days + 1)])
    passed = year = once = 0
    for _ in range(20):
        walks = rng.normal(size=(1000, days)).cumsum(axis=1) / np.sqrt(np.arange(1, days + 1))
        above = walks > factors
        passed += int(above.any(axis=1).sum())
        year += int(above[:, :365].any(axis=1).sum())
        once += int((walks[:, :365] > one_look(alpha)).any(axis=1).sum())
    assert passed / 20_000 <= alpha * 1.1  # at most, within the simulation's error
    assert 0.5 * alpha < year / 20_000 <= 0.9 * alpha
    assert once / 20_000 > 4 * alpha  # what a bound for one look does


def test_a_longer_plan_is_never_closer_early() -> None:
    assert boundary(365, 365, 0.05) == pytest.approx(2.03, abs=0.01)
    assert boundary(365, 730, 0.05) > boundary(365, 365, 0.05)
    assert boundary(400, 365, 0.05) > boundary(365, 365, 0.05)
    assert one_look(0.05) == pytest.approx(1.645, abs=0.001)


def test_a_difference_is_paired() -> None:
    """What both sides share cancels."""
    rng = np.random.default_rng(9)
    shared, ones = moving_sums(rng, 4000), np.ones(4000)
    grid = grid_of(np.arange(4000) / 24, 11)
    found = difference(Ratio(shared + 0.1, ones), Ratio(shared, ones), grid)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.windows < 1e-9


def test_days_needed() -> None:
    """As soon as the bound would leave out zero, by the boundary and the months of that day."""
    found = replace(mean_of(moving_sums(np.random.default_rng(2), 720), 11), value=0.5, windows=0.25, freedom=500)

    def needed(planned: float | None = 365.0, **changes: Any) -> float | None:
        return days_needed(replace(found, **changes), 30.0, 0.05, planned)

    days = [needed(value=value) for value in (0.5, 0.3, 0.1)]
    assert None not in days
    assert days == sorted(days, key=lambda value: value or 0.0)
    # twice its error after a month: five more are needed, for the looks and since few months tell little
    assert days[0] is not None and 150 <= days[0] <= 250
    assert days[2] is not None and days[2] > 365
    assert needed(value=-0.5) == days[0]
    assert 60 <= (needed(planned=None) or 0.0) < days[0] - 30  # one look needs fewer
    assert (needed(months=1.0) or 0.0) > days[0]
    assert needed(value=1000.0) is not None and (needed(value=1e9) or 0.0) >= 60
    assert (needed(value=0.0), needed(value=1e-9), needed(windows=math.inf)) == (None, None, None)


def test_ends_stay_within_what_is_possible() -> None:
    """Two months have one degree of freedom, and Student's t with one reaches millions of errors."""
    rng = np.random.default_rng(7)
    found = mean_of((moving_sums(rng, 62 * 24) > 0).astype(float), 11)
    assert found.stretches == 2
    assert found.within(5.0).bounds != found.within(5.0, most=1.0).bounds
    assert found.within(5.0, most=1.0).bounds == (-1.0, 1.0)
