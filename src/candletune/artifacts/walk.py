"""`walk/walk.json`: the periods of a walk, how far each is, and what each came to."""

from typing import ClassVar, Literal

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.metrics import Interval
from candletune.artifacts.verdict import JudgedModel

FoldState = Literal["planned", "trained", "replayed", "failed"]


class PeriodSide(Record):
    """One model's figures in a period.

    Attributes:
        signals: BUY and SELL calls with a known outcome.
        accuracy_signals: share of them that was right; None without any.
        balanced_accuracy: mean recall of the three classes.
        net_return: of a unit of capital that follows the calls, after fees.
    """

    signals: int
    accuracy_signals: float | None
    balanced_accuracy: float | None
    net_return: float | None


class WalkPeriod(Record):
    """One period.

    Attributes:
        start, end: decisions in [start, end) are replayed; ISO 8601 in UTC.
        train_start: examples before it were left out; None: none were.
        folder: the fold's run folder, relative to the walk's.
        state: how far it is.
        problem: why it failed; empty: it did not.
        candidate, incumbent: who answered; None before the replay.
        rows: of its journal.
        known: those of them whose outcome is known.
        active, shadow: figures of incumbent and candidate; None before the verdict.
        gain: BUY/SELL accuracy, candidate minus incumbent; None before the verdict.
    """

    start: str
    end: str
    train_start: str | None
    folder: str
    state: FoldState = "planned"
    problem: str = ""
    candidate: JudgedModel | None = None
    incumbent: JudgedModel | None = None
    rows: int = 0
    known: int = 0
    active: PeriodSide | None = None
    shadow: PeriodSide | None = None
    gain: Interval | None = None


class Walk(Artifact):
    """A walk.

    Attributes:
        every, window, incumbent, model: as configured.
        periods: in order.
    """

    COMMAND: ClassVar[str] = "walk"

    every: str
    window: str
    incumbent: str
    model: str
    periods: tuple[WalkPeriod, ...]
