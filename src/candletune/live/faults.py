"""What went wrong while a program ran, counted by kind: `/metrics` of `serve`, and `live.metrics` of the shadow loop.

A fault that is only said goes by in a log; one that is counted raises an alert. Every kind is there from the start,
with 0, since an alert on a growing number sees nothing of one that appears.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, get_args

from candletune.errors import InputError
from candletune.files import write_text
from candletune.journal import Status

Kind = Literal[
    "foreign_request",
    "body_length",
    "large_body",
    "context",
    "override",
    "model",
    "state",
    "internal",
    "active",
    "candidate_error",
    "candidate_invalid",
    "candidate_skipped",
    "late",
    "candles",
    "journal_broken",
    "journal_torn",
    "journal_duplicate",
    "journal_unlogged",
    "drift",
    "rollback",
]
CANDIDATE: Final[Mapping[Status, Kind]] = {
    "error": "candidate_error",
    "invalid": "candidate_invalid",
    "skipped": "candidate_skipped",
}
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
NAME: Final = "candletune_faults"
HELP: Final = "what went wrong, by kind"


class Faults:
    """Counts by kind, from 0 when the program began."""

    def __init__(self) -> None:
        self._counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    def add(self, kind: Kind, times: int = 1) -> None:
        """So many more of a kind."""
        self._counts[kind] += times

    def count_row(self, active: Status, shadow: Status, *, late: bool) -> None:
        """What was wrong with a row of the shadow loop."""
        if late:
            self.add("late")
        if active != "ok":
            self.add("active")
        if shadow in CANDIDATE:
            self.add(CANDIDATE[shadow])

    def reach(self, kind: Kind, count: int) -> None:
        """So many in all, by somebody else's count."""
        self._counts[kind] = max(count, self._counts[kind])

    @contextmanager
    def counted(self, kind: Kind) -> Iterator[None]:
        """An `InputError` that leaves the block is one of a kind."""
        try:
            yield
        except InputError:
            self.add(kind)
            raise

    @property
    def counts(self) -> Mapping[Kind, int]:
        """All kinds, those that never happened too."""
        return self._counts

    def write(self, path: Path, *, rows: int) -> None:
        """Write a file that Prometheus' node exporter takes (its textfile collector).

        Args:
            path: ends in `.prom`.
            rows: journal rows written since the program began.

        Raises:
            InputError: the file cannot be written.
        """
        lines = [f"# HELP {NAME}_total {HELP}", f"# TYPE {NAME}_total counter"]
        lines += [f'{NAME}_total{{kind="{kind}"}} {count}' for kind, count in self._counts.items()]
        lines += ["# HELP candletune_rows_total journal rows written", "# TYPE candletune_rows_total counter"]
        lines += [f"candletune_rows_total {rows}"]
        lines += ["# HELP candletune_looked_timestamp_seconds last look for decisions that are due"]
        lines += ["# TYPE candletune_looked_timestamp_seconds gauge"]
        lines += [f"candletune_looked_timestamp_seconds {time.time():.0f}", ""]
        write_text(path, "\n".join(lines))
