"""`<journal>.import.json`: where an imported journal comes from, and what was left out of it."""

from collections.abc import Mapping
from typing import ClassVar

from candletune.artifacts.base import Artifact, Record


class BadLine(Record):
    """A line of the source that is no row, and why."""

    line: int
    problem: str


class JournalImport(Artifact):
    """The provenance of an imported journal.

    Attributes:
        source: name of the file.
        source_sha256: its hash.
        imported: when, ISO 8601 in UTC.
        columns: the source's column of each field.
        timeframe: the candles that stamps were brought to.
        zone: time zone that stamps without one were read in; empty: none was needed.
        lines: of the source that hold anything.
        rows: written.
        moved: rows whose stamp was not a candle's close, and was brought back to the last one.
        most_moved_seconds: by how much at most.
        same_candle: rows left out because their ticker has an earlier one in the same candle.
        other_tickers: rows left out by ticker, since data.pairs has none for it.
        statuses: rows by side and status.
        bad: every line that is no row.
    """

    COMMAND: ClassVar[str] = "journal import"

    source: str
    source_sha256: str
    imported: str
    columns: Mapping[str, str]
    timeframe: str
    zone: str
    lines: int
    rows: int
    moved: int
    most_moved_seconds: float
    same_candle: int
    other_tickers: Mapping[str, int]
    statuses: Mapping[str, Mapping[str, int]]
    bad: tuple[BadLine, ...]
