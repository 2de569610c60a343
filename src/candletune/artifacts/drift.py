"""What lies beside `live.state`, and that file itself: what a promoted model was certified at, and how it stands."""

from collections.abc import Mapping
from typing import ClassVar

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.dataset import FieldRange
from candletune.artifacts.live_state import LiveState, ServedModel, StateChange

__all__ = [
    "DriftLevel",
    "DriftReference",
    "DriftReport",
    "DriftWatch",
    "InputCount",
    "InputLog",
    "LiveState",
    "ServedModel",
    "StateChange",
]


class DriftLevel(Record):
    """A mean that a model was judged at.

    Attributes:
        mean: of a row.
        drop: of the mean, that is on watch.
        deviation: standard deviation of a day's sum.
        days: that it is from.
        rows_a_day: on average.
        slope: what a day's sum gains for each unit of the market's part beyond the usual.
        usual: the market's part of a row, on average.
    """

    mean: float
    drop: float
    deviation: float
    days: int
    rows_a_day: float
    slope: float = 0.0
    usual: float = 0.0


class DriftReference(Artifact):
    """`adapters/<name>.drift.json` beside `live.state`: what a promoted model was certified at.

    Attributes:
        adapter_sha256: the promoted model's.
        replaced_sha256: the hash of the model it was judged against; None for the bare base.
        levels: by what is watched: `direction` and `log score`; missing where the evaluation had too few days.
        inputs: ticker -> context key -> what its training saw.
        allowed: ticker -> context key -> the share of the judged rows that lay outside that, and that said nothing.
    """

    COMMAND: ClassVar[str] = "promote"
    REMEDY: ClassVar[str] = "move it away: without it only the inputs go unwatched until the next promotion"

    adapter_sha256: str
    replaced_sha256: str | None
    levels: Mapping[str, DriftLevel] = {}
    inputs: Mapping[str, Mapping[str, FieldRange]] = {}
    allowed: Mapping[str, Mapping[str, tuple[float, float]]] = {}


class InputCount(Record):
    """A context key's rows of the day at hand, and the evidence of the days before.

    Attributes:
        rows: asked today.
        outside: of them beyond what the training saw.
        missing: of them without a value.
        outside_evidence: see `evaluation.drift.Outside`.
        missing_evidence: likewise.
        alarm: the day of the first alarm, ISO 8601; None: none.
    """

    rows: int = 0
    outside: int = 0
    missing: int = 0
    outside_evidence: tuple[float, ...] = ()
    missing_evidence: tuple[float, ...] = ()
    alarm: str | None = None


class InputLog(Artifact):
    """`inputs.json` beside `live.state`: what the active model was asked since its promotion.

    Attributes:
        adapter_sha256: the active model's.
        day: the day at hand, ISO 8601.
        counts: ticker -> context key -> its counts.
    """

    COMMAND: ClassVar[str] = "shadow"

    adapter_sha256: str
    day: str
    counts: Mapping[str, Mapping[str, InputCount]] = {}


class DriftWatch(Record):
    """One thing that is watched.

    Attributes:
        name: `direction`, `log score`, or `BTC rsi`.
        expected: what it was certified at, in words.
        seen: what it is now, in words.
        height: the evidence as a share of its limit.
        since: the day on which what it holds began, ISO 8601; None: nothing began.
        alarm: the day of the first alarm; None: none.
        model: whether it speaks of the model (or of what it is asked).
    """

    name: str
    expected: str
    seen: str
    height: float
    since: str | None = None
    alarm: str | None = None
    model: bool = True


class DriftReport(Artifact):
    """`drift.json` beside `live.state`: how the watch stands.

    Attributes:
        adapter_sha256: the active model's.
        name: its name.
        since: its promotion, ISO 8601.
        looked: when this was found, ISO 8601.
        days: whole days with outcomes since the promotion.
        watched: everything that is watched.
        replaced_better: whether the replaced model, still in the shadow, did better since the alarm's days began; None
            without an alarm, and where it is not in the shadow.
        note: why nothing is watched, or what is not; empty: everything is.
        told: names of alarms that people were told of.
    """

    COMMAND: ClassVar[str] = "drift"

    adapter_sha256: str
    name: str
    since: str
    looked: str
    days: int
    watched: tuple[DriftWatch, ...] = ()
    replaced_better: bool | None = None
    note: str = ""
    told: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[DriftWatch, ...]:
        """What raised one."""
        return tuple(watch for watch in self.watched if watch.alarm is not None)
