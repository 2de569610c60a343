"""What the replay stage says of itself in the run's manifest."""

from candletune.artifacts.base import Record
from candletune.artifacts.verdict import JudgedModel


class ReplaySummary(Record):
    """The replay's summary.

    Attributes:
        headline: one line for people.
        rows: of the journal.
        forced: part of them was seen in training.
        start, end: first and last decision time, ISO 8601.
        incumbent, candidate: who answered.
        seconds: of wall time.
    """

    headline: str
    rows: int
    forced: bool
    start: str
    end: str
    incumbent: JudgedModel
    candidate: JudgedModel
    seconds: float
