"""Uncertainty for overlapping, serially dependent, paired observations.

Twelve-hour windows that begin every hour share most of their candles, and two coins move together: rows are far from
independent. So times (with all tickers of a time together) are resampled in blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts.metrics import Interval

Floats = NDArray[np.float64]
_CELLS: Final = 2_000_000
"""Blocks of all resamples held at a time."""


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


def stationary_blocks(
    n: int, block: float, resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the stationary bootstrap's blocks (Politis and Romano 1994), each (resamples, blocks).

    Lengths are geometric with mean `block`; those of a row add up to n, the last being cut and any beyond it zero.
    A block that runs over the end goes on at the beginning.
    """
    chance = 1 / max(block, 1.0)
    blocks = min(n, int(n * chance + 8 * math.sqrt(n * chance)) + 16)
    ends = np.minimum(rng.geometric(chance, (resamples, blocks)).cumsum(axis=1), n)
    while ends[:, -1].min() < n:
        more = rng.geometric(chance, (resamples, blocks)).cumsum(axis=1)
        ends = np.concatenate([ends, np.minimum(ends[:, -1:] + more, n)], axis=1)
    lengths: NDArray[np.int64] = np.diff(ends, axis=1, prepend=0)
    return rng.integers(0, n, lengths.shape), lengths


def block_sums(series: Sequence[Floats], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Floats]:
    """Each series' sum over the blocks of each resample, (resamples,), as differences of running sums."""
    sums = []
    for values in series:
        running = np.concatenate([[0.0], np.concatenate([values, values]).cumsum()])
        sums.append((running[starts + lengths] - running[starts]).sum(axis=1))
    return sums


def bootstrap_difference(
    left: Ratio, right: Ratio | None, *, block: float, resamples: int, confidence: float, seed: int
) -> tuple[Interval, float]:
    """`left - right` (or `left` alone) with a paired percentile interval, and its standard error.

    Both sides are resampled with the same times, so what they have in common cancels.
    """
    a, b = left.value, 0.0 if right is None else right.value
    if a is None or b is None:
        return Interval(value=None, low=None, high=None), math.nan
    rng = np.random.default_rng(seed)
    series = [left.hits, left.counts] + ([] if right is None else [right.hits, right.counts])
    differences = []
    n = len(left.hits)
    part = max(1, int(_CELLS * max(block, 1.0) / n))  # bounded memory, however long the series
    for start in range(0, resamples, part):
        sums = block_sums(series, *stationary_blocks(n, block, min(part, resamples - start), rng))
        with np.errstate(invalid="ignore", divide="ignore"):
            differences.append(sums[0] / sums[1] - (0.0 if right is None else sums[2] / sums[3]))
    values = np.concatenate(differences)
    values = values[np.isfinite(values)]
    if len(values) < max(2, resamples // 2):
        return Interval(value=a - b, low=None, high=None), math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value=a - b, low=float(low), high=float(high)), float(values.std(ddof=1))


def wilson(rate: float, count: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate over `count` independent items; (0, 1) without any."""
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (rate * (1 - rate) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
