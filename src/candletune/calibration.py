"""Decision probabilities at other base rates, and back to what they mean.

A model learns from balanced examples, and is then taught how often to act (`candletune.training.policy`). What it says
first is its decision; what its probabilities mean is told apart from that, here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.decisions import DECISIONS

Floats = NDArray[np.float64]
HOLD = DECISIONS.index("HOLD")
LEAST_ROWS = 30
"""Fewer outcomes say nothing of three numbers."""
PAYS = 1.645
"""Standard errors above nothing from which on calls are taken to pay: a one-sided test at 5 %."""
_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Bias-corrected temperature scaling.

    Alexandari, Kundaje and Shrikumar, "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label
    Shift Adaptation", ICML 2020: p' ~ exp(log p / temperature + offset of the class). The offsets take back what the
    decision policy added, so calibrated probabilities say how often something happens, not what the model answers.

    Attributes:
        temperature: above 1 the model was too sure of itself.
        offsets: log-odds added to BUY, SELL and HOLD.
        rows: how many outcomes it was fitted on; 0: on none.
    """

    temperature: float = 1.0
    offsets: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rows: int = 0

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrated probabilities, (n, 3) or (3,)."""
        if self.temperature == 1.0 and not any(self.offsets):
            return probabilities
        logits = np.log(np.maximum(probabilities, _FLOOR)) / self.temperature + np.asarray(self.offsets)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scaled: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return scaled


def fit_calibration(
    probabilities: Floats, outcomes: NDArray[np.int64], known: Sequence[float] = (0.0, 0.0, 0.0)
) -> Calibration:
    """The temperature and offsets with the least negative log likelihood of what happened.

    A few hundred outcomes say little about three numbers, so each is held to what is known beforehand by a Gaussian of
    unit width: one outcome more or less counts for as much as it should, and no class that never occurred gets an
    infinite offset.

    Args:
        probabilities: (n, 3), as the model says them.
        outcomes: (n,) indices into DECISIONS.
        known: offsets (3,) that undo what is known to have been added.

    Raises:
        ValueError: fewer than 30 rows, or shapes that don't match.
    """
    from scipy.optimize import minimize

    if probabilities.shape != (len(outcomes), 3) or len(outcomes) < LEAST_ROWS:
        raise ValueError(
            f"expected (n, 3) probabilities and n >= {LEAST_ROWS} outcomes, got {probabilities.shape} {outcomes.shape}"
        )
    rows = np.arange(len(outcomes))
    centre = np.array([0.0, *(np.asarray(known) - known[HOLD])[:HOLD]])

    def loss(values: Floats) -> float:
        calibrated = _of(values, 0).apply(probabilities)
        told = -np.log(np.maximum(calibrated[rows, outcomes], _FLOOR)).sum()
        return float((told + ((values - centre) ** 2).sum() / 2) / len(outcomes))

    best = minimize(loss, centre, method="L-BFGS-B", bounds=[(-3.0, 3.0), (-20.0, 20.0), (-20.0, 20.0)])
    return _of(best.x, len(outcomes))


def _of(values: Floats, rows: int) -> Calibration:
    """From (log temperature, offset of BUY, offset of SELL); HOLD's is 0."""
    return Calibration(float(np.exp(values[0])), (float(values[1]), float(values[2]), 0.0), rows)


def prior_offsets(trained: Sequence[float], natural: Sequence[float]) -> tuple[float, float, float]:
    """Log-odds (3,) that turn posteriors learned under one class balance into those under another.

    p'(c) ~ p(c) * natural(c) / trained(c): Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to
    New a Priori Probabilities", Neural Computation 14 (2002), equation 2.4.

    Args:
        trained: class shares of the training examples.
        natural: class shares as they occur, the base rates.
    """
    logs = np.log(np.asarray(natural, dtype=np.float64)) - np.log(np.asarray(trained, dtype=np.float64))
    return float(logs[0]), float(logs[1]), float(logs[2])


def correct_prior(probabilities: Floats, trained: Sequence[float], natural: Sequence[float]) -> Floats:
    """Posteriors (n, 3) or (3,) under the base rates; see `prior_offsets`."""
    return Calibration(offsets=prior_offsets(trained, natural)).apply(np.asarray(probabilities, dtype=np.float64))


def call_offset(probabilities: Floats, wanted: float) -> float:
    """Log-odds to add to BUY and SELL, so that one of them is the likeliest in a wanted share of the rows.

    Args:
        probabilities: (n, 3).
        wanted: share of the rows, from 0 to 1.
    """
    margins = np.sort(-call_margins(probabilities))
    calls = round(wanted * len(margins))
    below = margins[calls - 1] if calls else margins[0] - 1
    above = margins[calls] if calls < len(margins) else margins[-1] + 1
    return float((below + above) / 2)


def call_margins(probabilities: Floats) -> Floats:
    """Log-odds (n,) of the likelier of BUY and SELL against HOLD, of probabilities (n, 3)."""
    logs = np.log(np.maximum(probabilities, _FLOOR))
    margins: Floats = logs[:, :HOLD].max(axis=1) - logs[:, HOLD]
    return margins


def call_share(probabilities: Floats) -> float:
    """Share of the rows (n, 3) whose likeliest decision is BUY or SELL."""
    return float((probabilities.argmax(axis=1) != HOLD).mean())


def earned_by_calls(probabilities: Floats, gains: Floats, days: NDArray[np.int64]) -> float:
    """What a model's calls earned, in standard errors under the hypothesis that it is nothing.

    Rows of one day happen together, so errors are of sums over days; one day alone gives 1 or -1, no call 0.

    Args:
        probabilities: (n, 3).
        gains: what BUY, SELL and HOLD would have earned, (n, 3).
        days: of each row, (n,).
    """
    decisions = probabilities.argmax(axis=1)
    earned = gains[np.arange(len(gains)), decisions] - gains[:, HOLD]
    _, day = np.unique(days, return_inverse=True)
    sums = np.bincount(day, weights=earned)
    return float(sums.sum() / max(np.sqrt((sums**2).sum()), _FLOOR))


def shares_of(value: Any) -> tuple[float, float, float] | None:
    """Class shares from metadata, a mapping by decision or a list in DECISIONS order; None when there are none.

    Raises:
        ValueError: not three positive numbers.
    """
    if value is None:
        return None
    numbers = [value[decision] for decision in DECISIONS] if isinstance(value, Mapping) else list(value)
    shares = np.asarray(numbers, dtype=np.float64)
    if shares.shape != (3,) or not (shares < 1e15).all() or (shares <= 0).any():
        raise ValueError(f"expected three positive class shares, got {value!r}")
    shares = shares / shares.sum()
    return float(shares[0]), float(shares[1]), float(shares[2])
