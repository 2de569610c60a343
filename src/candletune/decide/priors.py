"""From the class shares of training to the base rates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.decisions import DECISIONS

Floats = NDArray[np.float64]


def correct_prior(probabilities: Floats, trained: Sequence[float], natural: Sequence[float]) -> Floats:
    """Posteriors learned under one class balance, as they would be under another.

    p'(c) ~ p(c) * natural(c) / trained(c), renormalised: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a
    Classifier to New a Priori Probabilities", Neural Computation 14 (2002), equation 2.4.

    Args:
        probabilities: (n, 3) or (3,), rows summing to one, in DECISIONS order.
        trained: class shares of the training examples.
        natural: class shares as they occur, the base rates.
    """
    weights = np.asarray(natural, dtype=np.float64) / np.asarray(trained, dtype=np.float64)
    weighted = np.asarray(probabilities, dtype=np.float64) * weights
    corrected: Floats = weighted / weighted.sum(axis=-1, keepdims=True)
    return corrected


def shares_of(value: Any) -> tuple[float, float, float] | None:
    """Class shares from metadata, a mapping by decision or a list in DECISIONS order; None when there are none.

    Raises:
        ValueError: not three positive numbers.
    """
    if value is None:
        return None
    numbers = [value[decision] for decision in DECISIONS] if isinstance(value, Mapping) else list(value)
    shares = np.asarray(numbers, dtype=np.float64)
    if shares.shape != (3,) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise ValueError(f"expected three positive class shares, got {value!r}")
    shares = shares / shares.sum()
    return float(shares[0]), float(shares[1]), float(shares[2])
