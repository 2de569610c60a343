"""What every baseline is given, and how a classifier becomes one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.calibration import Calibration, call_offset
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.fields.registry import FEATURES
from candletune.market.sentiment import NO_HEADLINES

Floats = NDArray[np.float64]
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
        weights: how many candidate rows each training example stands for, (examples,).
        threshold: of the labels, a fraction.
        held_out: rows at the base rates that nothing was fitted on, on which classifiers learn how often to act.
        natural: base rates of the classes.
        calls: share of the rows that the candidate was taught to call; None: it was not, nor are classifiers.
        seed: of whatever is random.
    """

    rows: pl.DataFrame
    train: pl.DataFrame
    train_classes: Ints
    weights: Floats
    threshold: float
    held_out: pl.DataFrame
    natural: Sequence[float] | None
    calls: float | None
    seed: int

    @property
    def train_shares(self) -> NDArray[np.float64]:
        """Shares of the three classes in the training examples, shape (3,)."""
        return np.bincount(self.train_classes, minlength=3) / max(1, len(self.train_classes))

    @property
    def reads(self) -> bool:
        """Whether the rows have headlines, and the examples had any."""
        frames = (self.rows, self.train, self.held_out)
        return all("headlines" in frame.columns for frame in frames) and bool(
            (self.train["headlines"] != NO_HEADLINES).any()
        )

    @property
    def weighs(self) -> bool:
        """Whether classifiers answer at the base rates; else they see the balanced examples as they are."""
        return self.calls is not None and self.natural is not None


def reads_headlines(task: Task) -> bool:
    """For baselines that have nothing to read elsewhere."""
    return task.reads


@dataclass(frozen=True, slots=True)
class Baseline:
    """One thing to beat.

    Attributes:
        name: as tables and the report show it.
        order: its place in them; equal ones by name.
        decide: indices into DECISIONS (or SILENT) for the task's rows, shape (n,).
        applies: whether it is measured at all.
    """

    name: str
    order: int
    decide: Callable[[Task], Ints]
    applies: Callable[[Task], bool] = lambda _: True


Inputs = Callable[[pl.DataFrame], Any]
"""From rows to what a classifier is given."""


def classify(model: Any, task: Task, inputs: Inputs | None = None) -> Ints:
    """Decisions of a scikit-learn classifier, acting as often as the candidate was taught to.

    Args:
        model: see `probabilities`.
        task: see there.
        inputs: see there.
    """
    return answers(model, task, inputs)[0]


def answers(model: Any, task: Task, inputs: Inputs | None = None) -> tuple[Ints, Floats]:
    """The same decisions, (n,), and the probabilities behind them, (n, 3), at the base rates where it is weighed."""
    asked, held_out = probabilities(model, task, inputs)
    if not task.weighs:
        decisions: Ints = asked.argmax(axis=1)
        return decisions, asked
    shift = call_offset(held_out, task.calls or 0.0)
    called: Ints = Calibration(offsets=(shift, shift, 0.0)).apply(asked).argmax(axis=1)
    return called, asked


def probabilities(model: Any, task: Task, inputs: Inputs | None = None) -> tuple[Floats, Floats]:
    """Probabilities of a scikit-learn classifier for the task's rows and the held-out ones, (rows, 3) each.

    The examples are spread evenly over months, so a class is not sampled alike in every market: dividing by one ratio a
    class (Saerens 2002) leaves probabilities that are worse than the base rates alone. Each example weighs what it
    stands for instead (Horvitz and Thompson 1952).

    Args:
        model: with `fit`, `predict_proba` and `classes_`; of a pipeline the last step takes the weights.
        task: see there.
        inputs: what it is given of rows; None: the fields' features.

    Raises:
        InputError: the dataset lacks a column that a feature is made of.
    """
    from threadpoolctl import threadpool_limits

    found = []
    fitted(model, task, inputs)
    with threadpool_limits(limits=1):
        for rows in (task.rows, task.held_out):
            found.append(np.zeros((len(rows), 3)))
            found[-1][:, model.classes_] = model.predict_proba((inputs or features)(rows))
    return found[0], found[1]


def fitted(model: Any, task: Task, inputs: Inputs | None = None) -> Any:
    """The classifier, fitted on the task's examples; see `probabilities`."""
    from threadpoolctl import threadpool_limits

    name = f"{model.steps[-1][0]}__sample_weight" if hasattr(model, "steps") else "sample_weight"
    weights = {name: task.weights / task.weights.mean()} if task.weighs else {}
    # A few thousand rows: more threads only wait for each other, for half a minute on a busy machine.
    with threadpool_limits(limits=1):
        model.fit((inputs or features)(task.train), task.train_classes, **weights)
    return model


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
