"""How uncertain a mean over overlapping decision times is: at one look, and at every look of a test that goes on.

An estimate is a value and its terms: one number a decision time, adding up to zero, whose mean has the estimate's
sampling error (a ratio is linearised). Two errors are computed from them, and the wider one counts:

- of *windows*: cosine transforms of the sums over windows of one horizon, equally weighted over periods of ten windows
  and more (Mueller 2007; Lazarus, Lewis, Stock and Watson 2018). It sees that windows overlap and calls last.
- of *months*: the estimates of equal stretches of about thirty days, as independent observations (Ibragimov and
  Mueller 2010). It sees that skill may come and go with the regime.

Both are estimated from few numbers, so Student's t stands in for the normal distribution.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts.metrics import Interval
from candletune.evaluation.statistics import Floats, Ratio

MONTH: Final = 30.0
"""Days of a stretch."""
LEAST_MONTHS: Final = 2
"""Months below which skill cannot be told from a regime that suits it, so nothing is promoted."""
FOREVER: Final = 36_500.0
"""Days after which nobody waits for evidence."""
PERIOD: Final = 10
"""Windows of the shortest period whose variance counts as that of the mean."""
_EARLY: Final = 0.85
"""Share of the error spent up to the planned length."""
_LATE: Final = 1.7
"""How fast the boundary rises beyond the planned length: as slow as the rest of the error allows over eight years."""
_PRIOR: Final = 6
"""Windows side by side are believed as much as so many cosines, when the effective size is estimated."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Decision times in order.

    Attributes:
        overlap: later decision times that follow within one horizon, whose windows share candles.
        days: from the first to the last.
        stretch: which of the equal stretches of about a month each belongs to, (times,).
    """

    overlap: int
    days: float
    stretch: NDArray[np.int64]

    @property
    def months(self) -> int:
        """Whole stretches of thirty days."""
        return int(self.days // MONTH)


def grid_of(elapsed: Floats, overlap: int) -> Grid:
    """Args:
    elapsed: days since the first decision time, ascending, (times,).
    overlap: see `Grid`.
    """
    days = float(elapsed[-1]) if len(elapsed) else 0.0
    count = max(1, int(days // MONTH))
    stretch = np.minimum((elapsed * (count / days if days else 0.0)).astype(np.int64), count - 1)
    return Grid(overlap, days, stretch)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its terms (see the module), and their errors with degrees of freedom.

    Attributes:
        windows, freedom: standard error that knows the overlap.
        months, stretches: standard error over the months and their number; infinite with fewer than two.
        effective: independent decision times that the acting ones are worth.
    """

    value: float
    terms: Floats
    windows: float
    freedom: int
    months: float
    stretches: int
    effective: float

    def interval(self, confidence: float) -> Interval:
        """At one look, under regimes that stay as they are."""
        reach = _student((1 - confidence) / 2, self.freedom) * self.windows
        return _interval(self.value, reach)

    def within(self, factor: float, times: float = 1.0, most: float = math.inf) -> Interval:
        """Whatever the regimes, `factor` (see `boundary`) standard errors to both sides; of `times` the value.

        Args:
            factor: standard errors of a normal distribution.
            times: unit of the result.
            most: what its size can be at most; few months leave ends far beyond it.
        """
        found = _interval(self.value * times, self.reach(factor) * times)
        if found.bounds is None:
            return found
        return Interval(value=found.value, low=max(found.bounds[0], -most), high=min(found.bounds[1], most))

    def reach(self, factor: float) -> float:
        """Half the width that `factor` standard errors of a normal distribution stand for.

        Before the second month nothing is known of regimes, and the rule promotes nothing (`LEAST_MONTHS`).
        """
        tail = _normal_tail(factor)
        windows = _student(tail, self.freedom) * self.windows
        if self.stretches < 2:
            return windows
        return max(windows, _student(tail, self.stretches - 1) * self.months)


def boundary(days: float, planned: float, alpha: float) -> float:
    """Standard errors that a bound must be away so that it holds at every look with an error of `alpha`.

    Up to the planned length the sum of what was seen has to pass one fixed height, which a random walk does with twice
    the chance that it ends above it (the reflection principle); beyond it the factor grows with the root of the
    logarithm of time. Measured at every look by `tests/evaluation/test_bounds.py`.
    """
    height = -_normal(alpha * _EARLY / 2)
    share = max(days, 1e-9) / planned
    if share <= 1:
        return height / math.sqrt(share)
    return height * math.sqrt(1 + _LATE * math.log(share))


def one_look(alpha: float) -> float:
    """Standard errors that a bound must be away so that it holds at one look with an error of `alpha`."""
    return -_normal(alpha)


def days_needed(found: Estimate, days: float, alpha: float, planned: float | None) -> float | None:
    """Days until the bound would leave out zero, if value and noise stay as they are.

    The standard error falls with the root of time, and Student's t of the months with their number. None where no time
    is enough, or more than a hundred years.

    Args:
        found: what was seen.
        days: in how many days.
        alpha: one-sided error that the bound may make.
        planned: planned length in days of a test whose bound holds at every look; None: the bound of one look.
    """
    if found.value == 0 or not math.isfinite(found.windows):
        return None

    def short(after: float) -> bool:
        month = found.months if math.isfinite(found.months) else found.windows
        tail = _normal_tail(one_look(alpha) if planned is None else boundary(after, planned, alpha))
        windows = _student(tail, max(1, round(found.freedom * after / days))) * found.windows
        months = _student(tail, int(after // MONTH) - 1) * month
        return max(windows, months) * math.sqrt(days / after) > abs(found.value)

    early, late = LEAST_MONTHS * MONTH, FOREVER
    if short(late):
        return None
    for _ in range(60):
        middle = (early + late) / 2
        early, late = (middle, late) if short(middle) else (early, middle)
    return late


def estimate(ratio: Ratio, grid: Grid) -> Estimate | None:
    """A ratio of sums over decision times; None where nothing is counted."""
    terms = ratio_terms(ratio)
    return None if terms is None else from_terms(ratio.value or 0.0, terms, int((ratio.counts > 0).sum()), grid)


def difference(left: Ratio, right: Ratio, grid: Grid) -> Estimate | None:
    """`left - right`, paired in time; None where a side counts nothing."""
    mine, other = ratio_terms(left), ratio_terms(right)
    if mine is None or other is None:
        return None
    acting = int(((left.counts > 0) | (right.counts > 0)).sum())
    return from_terms((left.value or 0.0) - (right.value or 0.0), mine - other, acting, grid)


def ratio_terms(ratio: Ratio) -> Floats | None:
    """What each decision time adds to the error of a ratio, linearised."""
    whole = ratio.counts.sum()
    if not whole:
        return None
    terms: Floats = (ratio.hits - ratio.hits.sum() / whole * ratio.counts) * (len(ratio.counts) / whole)
    return terms


def from_terms(value: float, terms: Floats, acting: int, grid: Grid) -> Estimate:
    """An estimate with its errors.

    Args:
        value: the estimate.
        terms: see the module, (times,).
        acting: decision times that add anything.
        grid: the decision times.
    """
    windows, freedom = window_error(terms, grid.overlap)
    months, stretches = month_error(terms, grid)
    size = effective_size(terms, grid.overlap, windows, freedom) * acting / max(len(terms), 1)
    return Estimate(value, terms, windows, freedom, months, stretches, size)


def window_error(terms: Floats, overlap: int) -> tuple[float, int]:
    """Standard error of the terms' mean from cosine transforms of window sums, and its degrees of freedom."""
    count = len(terms) // (overlap + 1)
    if count < 2:
        return math.inf, 0
    edges = np.linspace(0, len(terms), count + 1).astype(np.int64)[:-1]
    sums = np.add.reduceat(terms, edges)
    freedom = min(count - 1, max(2, 2 * count // PERIOD))
    # The first terms of the orthonormal cosine transform; their squares estimate the spectrum near frequency zero.
    return math.sqrt(float((_cosines(sums, freedom) ** 2).mean()) * count) / len(terms), freedom


def _cosines(sums: Floats, count: int) -> Floats:
    from scipy.fft import dct

    found: Floats = dct(sums, type=2, norm="ortho")[1 : count + 1]
    return found


def month_error(terms: Floats, grid: Grid) -> tuple[float, int]:
    """Standard error of the terms' mean from the sums of the stretches, and how many they are."""
    count = int(grid.stretch[-1]) + 1 if len(terms) else 0
    if count < 2:
        return math.inf, count
    sums = np.bincount(grid.stretch, weights=terms, minlength=count)
    return math.sqrt(float(sums.var(ddof=1)) * count) / len(terms), count


def effective_size(terms: Floats, overlap: int, error: float, freedom: int) -> float:
    """Independent observations the terms are worth: their variance over that of their mean, at most their number.

    A short series shows its own dependence badly, so the number of windows that lie side by side is believed as if
    `_PRIOR` cosines had said it: on short series that number comes out, on long ones what the series says.
    """
    count = len(terms)
    if count == 0:
        return 0.0
    variance = float(terms @ terms) / count
    if variance == 0 or not math.isfinite(error):
        return count / (overlap + 1)
    inflation = error**2 * count / variance
    believed = (freedom * inflation + _PRIOR * (overlap + 1)) / (freedom + _PRIOR)
    return min(float(count), count / max(believed, 1.0))


def _interval(value: float, reach: float) -> Interval:
    known = math.isfinite(reach)
    return Interval(value=value, low=value - reach if known else None, high=value + reach if known else None)


def _student(tail: float, freedom: int) -> float:
    """The point above which Student's t has this tail; infinite without degrees of freedom."""
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, tail)) if freedom else math.inf


def _normal(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def _normal_tail(factor: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(-factor))
