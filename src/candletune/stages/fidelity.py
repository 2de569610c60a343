"""How faithfully the served model answers as the trained one: the same labelled rows, scored by both."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts import DecisionScores, Fidelity
from candletune.calibration import Calibration
from candletune.decide.adapters import adapter_facts
from candletune.decisions import DECISIONS

Floats = NDArray[np.float64]
Z_95 = 1.959964
"""Half of a 95 % interval, in standard errors."""


def calibration_of(exported: Path) -> Calibration:
    """What turns an export's scores into probabilities, as its file says."""
    return adapter_facts(exported).calibration


def compare(
    trained: Floats, served: Floats, labels: Sequence[int], storage: str, calibration: Calibration | None = None
) -> Fidelity | None:
    """Both models on the same rows; None where a probability is not a number or there is no row.

    Args:
        trained: probabilities of DECISIONS as trained, (n, 3); the decision is the largest.
        served: the same as served.
        labels: index of each row's label, (n,).
        storage: of the frozen weights in training.
        calibration: the adapter's, for the log loss: how often to act, which training puts into the decision, is no
            part of what the probabilities mean. None: none.
    """
    if not len(labels) or not (np.isfinite(trained).all() and np.isfinite(served).all()):
        return None
    truth = np.asarray(labels)
    one, other = trained.argmax(axis=1), served.argmax(axis=1)
    lost, error = accuracy_lost(one == truth, other == truth, truth)
    return Fidelity(
        rows=len(truth),
        storage=storage,
        trained=scores(trained, truth, calibration or Calibration()),
        served=scores(served, truth, calibration or Calibration()),
        accuracy_lost=lost,
        interval=(lost - Z_95 * error, lost + Z_95 * error),
        agreement=float((one == other).mean()),
        largest_gap=float(np.abs(trained - served).max()),
    )


def scores(probabilities: Floats, labels: NDArray[Any], calibration: Calibration) -> DecisionScores:
    """Balanced accuracy of the decisions and log loss of the calibrated probabilities, (n, 3), against labels (n,)."""
    right = probabilities.argmax(axis=1) == labels
    recalls = [right[labels == k].mean() for k in range(len(DECISIONS)) if (labels == k).any()]
    told = calibration.apply(probabilities)[np.arange(len(labels)), labels].clip(1e-9)
    return DecisionScores(balanced_accuracy=float(np.mean(recalls)), log_loss=float(-np.log(told).mean()))


def accuracy_lost(trained: NDArray[Any], served: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Balanced accuracy that serving loses, and its standard error, from whether each answer was right (n,).

    Both answer the same rows, so only those that one got right and the other wrong count; the rest cancels. Half a row
    of each kind is added for the error, or few rows without a difference would seem to be certain of it.

    Source: Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions", for each
    class; the classes are independent.
    """
    differences, variances = [], []
    for k in range(len(DECISIONS)):
        of_class = labels == k
        count = int(of_class.sum())
        if not count:
            continue
        worse = float((trained & ~served)[of_class].sum())
        better = float((served & ~trained)[of_class].sum())
        differences.append((worse - better) / count)
        size = count + 2
        variances.append((worse + better + 1 - (worse - better) ** 2 / size) / size**2)
    return float(np.mean(differences)), sqrt(sum(variances)) / len(differences)
