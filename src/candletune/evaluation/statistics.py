"""Uncertainty for overlapping, serially dependent, paired observations.

Twelve-hour windows that begin every hour share most of their candles, and two coins move together: rows are far from
independent. So times (with all tickers of a time together) are resampled in blocks.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; None where it is undefined (no signals, say)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A mean over rows as sums a time: `hits[t] / counts[t]`, both of shape (times,)."""

    hits: Floats
    counts: Floats

    @property
    def value(self) -> float | None:
        """Its value over all times."""
        whole = self.counts.sum()
        return float(self.hits.sum() / whole) if whole else None


def effective_size(series: NDArray[np.floating[Any]], lags: int) -> float:
    """Independent observations a dependent series is worth: n / (1 + 2 sum_k (1 - k/n) rho_k), at least 1, at most n.

    Args:
        series: values in time order, shape (n,).
        lags: autocorrelations summed (the overlap of the windows, in observations).

    Source: Bayley and Hammersley (1946), for the variance of the mean of an autocorrelated series.
    """
    n = len(series)
    if n < 3 or lags < 1:
        return float(n)
    centred = series - series.mean()
    variance = float(centred @ centred)
    if variance == 0:
        return float(n)
    steps = np.arange(1, min(lags, n - 1) + 1)
    rho = np.array([centred[:-k] @ centred[k:] for k in steps]) / variance
    inflation = 1 + 2 * float(((1 - steps / n) * rho).sum())
    return float(min(n, max(1.0, n / max(inflation, 1e-9))))


def stationary_indices(n: int, block: float, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers of the stationary bootstrap (Politis and Romano 1994), shape (resamples, n).

    Blocks have geometric lengths of mean `block` and wrap around.
    """
    starts = rng.integers(0, n, (resamples, n))
    fresh = rng.random((resamples, n)) < 1 / max(block, 1.0)
    fresh[:, 0] = True
    column = np.broadcast_to(np.arange(n), (resamples, n))
    begun = np.maximum.accumulate(np.where(fresh, column, 0), axis=1)
    found: NDArray[np.int64] = (np.take_along_axis(starts, begun, axis=1) + column - begun) % n
    return found


def bootstrap_difference(
    left: Ratio, right: Ratio, *, block: float, resamples: int, confidence: float, seed: int
) -> tuple[Interval, float]:
    """`left - right` with a paired percentile interval, and its standard error.

    Both sides are resampled with the same times, so what they have in common cancels.
    """
    a, b = left.value, right.value
    if a is None or b is None:
        return Interval(None, None, None), math.nan
    rng = np.random.default_rng(seed)
    found = []
    n = len(left.hits)
    for start in range(0, resamples, 250):  # bounded memory: 250 x n indices at a time
        rows = stationary_indices(n, block, min(250, resamples - start), rng)
        sums = [series[rows].sum(axis=1) for series in (left.hits, left.counts, right.hits, right.counts)]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(sums[0] / sums[1] - sums[2] / sums[3])
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    if len(values) < resamples // 2:
        return Interval(a - b, None, None), math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(a - b, float(low), float(high)), float(values.std(ddof=1))


def sequential_factor(effective: float, alpha: float, first: float = 50.0) -> float:
    """How many standard errors the interval must be wide so that it holds at all times at once.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas ("Time-uniform central limit
    theory and asymptotic confidence sequences", 2021, eq. 5), tightest when `effective` is near `first`.
    """
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / first
    t = max(effective, 1.0)
    scaled = t * rho2 + 1
    return math.sqrt(2 * scaled / (t * rho2) * math.log(math.sqrt(scaled) / alpha))


def days_needed(gain: float | None, error: float, days: float, target: float, factor: float) -> float | None:
    """Days until the interval around `gain` would leave out `target`, if gain and noise stay as they are.

    The standard error falls with the square root of time. None when the gain is the target (no amount is enough).
    """
    if gain is None or not math.isfinite(error) or gain == target:
        return None
    return float(days * (factor * error / abs(gain - target)) ** 2)
