"""Calibration of decision probabilities, after the prior correction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

    One positive number, so the order of the decisions, and with it the action, never changes.

    Attributes:
        temperature: above 1 the model was too sure of itself.
        rows: how many outcomes it was fitted on.
    """

    temperature: float = 1.0
    rows: int = 0

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrated probabilities, (n, 3) or (3,)."""
        if self.temperature == 1.0:
            return probabilities
        logits = np.log(np.maximum(probabilities, _FLOOR)) / self.temperature
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scaled: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return scaled


def fit_calibration(probabilities: Floats, outcomes: NDArray[np.int64]) -> Calibration:
    """The temperature with the least negative log likelihood of what happened, between 1/20 and 20.

    Args:
        probabilities: (n, 3), as the journal has them.
        outcomes: (n,) indices into DECISIONS.

    Raises:
        ValueError: fewer than 30 rows, or shapes that don't match.
    """
    from scipy.optimize import minimize_scalar

    if probabilities.shape != (len(outcomes), 3) or len(outcomes) < 30:
        raise ValueError(
            f"expected (n, 3) probabilities and n >= 30 outcomes, got {probabilities.shape} {outcomes.shape}"
        )
    rows = np.arange(len(outcomes))

    def loss(log_temperature: float) -> float:
        calibrated = Calibration(float(np.exp(log_temperature))).apply(probabilities)
        return float(-np.log(np.maximum(calibrated[rows, outcomes], _FLOOR)).mean())

    bound = float(np.log(20.0))
    best = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4})
    return Calibration(float(np.exp(best.x)), len(outcomes))
