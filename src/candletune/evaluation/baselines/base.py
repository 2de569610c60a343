"""What every baseline is given, and how a classifier becomes one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.decide.priors import correct_prior
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.fields.registry import FEATURES

Ints = NDArray[np.int64]
BUY: Final = DECISIONS.index("BUY")
SELL: Final = DECISIONS.index("SELL")
HOLD: Final = DECISIONS.index("HOLD")
SILENT: Final = -1
"""In place of a decision: no answer."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a baseline decides from; it sees nothing that was not known at each row's time.

    Attributes:
        rows: market rows by time and asset, with the fields' candle columns, `close` and `past_return`, n of them.
        train: the training examples' candle columns and `close` (balanced classes, as the candidate saw them).
        train_classes: their labels, indices into DECISIONS.
        threshold: of the labels, a fraction.
        natural: base rates of the classes, to correct classifiers as the candidate is corrected; None: as trained.
        seed: of whatever is random.
    """

    rows: pl.DataFrame
    train: pl.DataFrame
    train_classes: Ints
    threshold: float
    natural: Sequence[float] | None
    seed: int

    @property
    def train_shares(self) -> NDArray[np.float64]:
        """Shares of the three classes in the training examples, shape (3,)."""
        return np.bincount(self.train_classes, minlength=3) / max(1, len(self.train_classes))


@dataclass(frozen=True, slots=True)
class Baseline:
    """One thing to beat.

    Attributes:
        name: as tables and the report show it.
        order: its place in them; equal ones by name.
        decide: indices into DECISIONS (or SILENT) for the task's rows, shape (n,).
    """

    name: str
    order: int
    decide: Callable[[Task], Ints]


def classify(model: Any, task: Task) -> Ints:
    """Decisions of a scikit-learn classifier on the fields' features, corrected to the base rates.

    Args:
        model: with `fit`, `predict_proba` and `classes_`.
        task: see there.

    Raises:
        InputError: the dataset lacks a column that a feature is made of.
    """
    from threadpoolctl import threadpool_limits

    probabilities = np.zeros((len(task.rows), 3))
    # A few thousand rows: more threads only wait for each other, for half a minute on a busy machine.
    with threadpool_limits(limits=1):
        model.fit(features(task.train), task.train_classes)
        probabilities[:, model.classes_] = model.predict_proba(features(task.rows))
    shares = task.train_shares
    if task.natural is not None and (shares > 0).all():
        probabilities = correct_prior(probabilities, shares.tolist(), task.natural)
    decisions: Ints = probabilities.argmax(axis=1)
    return decisions


def features(frame: pl.DataFrame) -> NDArray[np.float64]:
    """The fields' features, shape (n, number of features).

    Raises:
        InputError: the frame lacks a column that a feature is made of.
    """
    try:
        values = frame.select(feature.value.alias(feature.name) for feature in FEATURES)
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(
            f"dataset: no column {str(error).split()[0]}, which the baselines read; run `candletune dataset --force`"
        ) from None
    return values.to_numpy().astype(np.float64)
