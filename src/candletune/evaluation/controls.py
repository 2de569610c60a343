"""A control that needs no second model: the same decisions held against outcomes of other times."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts.metrics import ShiftControl

Floats = NDArray[np.float64]


def shifted_accuracy(scored: pl.DataFrame, side: str, *, move: float, least_shift: int) -> ShiftControl | None:
    """BUY/SELL accuracy when the outcomes are shifted in time against the decisions, as a permutation test.

    Every circular shift of at least `least_shift` decision times breaks what a decision knows of its outcome and leaves
    the rest as it was: how long calls last, how outcomes cluster, how often each occurs. So the accuracies under the
    shifts are what chance gives. All shifts are computed at once as circular correlations.

    Args:
        scored: scored rows in time order.
        side: `active` or `shadow`.
        move: the plan's 1 % as a fraction.
        least_shift: in decision times of a ticker; at least the overlap of the windows.

    Returns:
        The control; None with too few rows or no signal.
    """
    parts = [part for (_,), part in scored.group_by("ticker", maintain_order=True)]
    shortest = min(len(part) for part in parts)
    shifts = np.arange(least_shift, shortest - least_shift)
    if len(shifts) < 2:
        return None
    hits, counts = np.zeros(shortest), np.zeros(shortest)
    for part in parts:
        buys, sells = ((part[f"{side}_action"] == name).fill_null(value=False).to_numpy() for name in ("BUY", "SELL"))
        returns = part["forward_return"].to_numpy()
        hits += (_shifted(buys, returns > move) + _shifted(sells, returns < -move))[:shortest]
        counts += _shifted(buys | sells, np.isfinite(returns))[:shortest]
    if not counts[0]:
        return None
    accuracy = np.divide(hits, counts, out=np.full(shortest, np.nan), where=counts > 0)
    chance = accuracy[shifts]
    chance = chance[np.isfinite(chance)]
    if not len(chance):
        return None
    low, high = np.quantile(chance, [0.025, 0.975])
    return ShiftControl(
        accuracy=float(accuracy[0]),
        chance=float(chance.mean()),
        low=float(low),
        high=float(high),
        p_value=float((chance >= accuracy[0]).mean()),
        shifts=len(chance),
    )


def _shifted(decided: NDArray[np.bool_], happened: NDArray[np.bool_]) -> Floats:
    """At shift s, how often `decided[t]` and `happened[t + s]` (around the end) are both true: circular correlation."""
    product = np.conj(np.fft.rfft(decided.astype(np.float64))) * np.fft.rfft(happened.astype(np.float64))
    counts: Floats = np.rint(np.fft.irfft(product, n=len(decided)))
    return counts
