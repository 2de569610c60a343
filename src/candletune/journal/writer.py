"""Writing a journal: one `write` and one `fsync` under a lock that several processes share."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from candletune.errors import InputError
from candletune.files import (
    append,
    close,
    facts,
    locked,
    make_folder,
    open_append,
    read_at,
    sync_folder,
    truncate,
)
from candletune.journal.reader import read_block
from candletune.journal.rows import DuplicateRow, Problems, Row, format_time, parse_line, parse_time

_TAIL = 64 << 10
"""Bytes at the end of what is known of the file that must still be there: else it was cut, and has grown again."""


class Journal:
    """A writer. Several writers, in one process or many, may share a path.

    Attributes:
        path: the JSONL file; its folder is made.
        problems: what was found wrong in the file so far, by this writer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems = Problems()
        self._thread = threading.Lock()
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._seen: dict[str, set[datetime]] = defaultdict(set)
        self._offset = 0
        self._lines = 0
        self._tail = b""
        self._identity: tuple[int, int] | None = None
        make_folder(path.parent)
        with self._open():
            pass

    @property
    def torn_path(self) -> Path:
        """Where unacknowledged half lines are kept."""
        return self.path.with_name(self.path.name + ".torn")

    def append(self, row: Row) -> None:
        """Write one row and wait until it is on disk.

        Raises:
            DuplicateRow: the ticker has a row at this time; nothing is written.
            InputError: the disk refused the row; the file is as it was.
        """
        self.append_many((row,))

    def append_many(self, rows: Sequence[Row]) -> None:
        """Write rows with one `write` and one `fsync`: all of them, or none (see `append` for the errors)."""
        lines = b"".join(row.line() for row in rows)
        keys = [(row.ticker, row.timestamp.astimezone(UTC)) for row in rows]
        with self._open() as handle:
            fresh: set[tuple[str, datetime]] = set()
            for ticker, time in keys:
                if time in self._seen[ticker] or (ticker, time) in fresh:
                    raise DuplicateRow(
                        f"{self.path}: {ticker} at {format_time(time)} is there already; a candle has one row"
                    )
                fresh.add((ticker, time))
            self._write(handle, lines)
            self._learn(lines, len(rows), keys)

    def has(self, ticker: str, time: datetime) -> bool:
        """Whether a row of this ticker and decision time is in the file, whoever wrote it."""
        with self._open():
            return time.astimezone(UTC) in self._seen[ticker]

    def last(self, ticker: str) -> datetime | None:
        """The latest decision time logged for a ticker."""
        with self._open():
            return max(self._seen[ticker], default=None)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """The journal's locks held, its file open for appending, and its keys up to date."""
        with self._thread:
            try:
                with locked(self._lock):
                    handle = open_append(self.path)
                    try:
                        self._catch_up(handle)
                        yield handle
                    finally:
                        close(handle)
            except OSError as error:
                reason = error.strerror or str(error)
                raise InputError(
                    f"{self.path}: the journal cannot be opened ({reason}); check its folder and the room on its disk, "
                    "or choose another live.journal"
                ) from None

    def _write(self, handle: int, data: bytes) -> None:
        try:
            append(handle, data)
        except OSError as error:
            reason = error.strerror or str(error)
            # What may be on disk was not acknowledged: take it back, so that a later retry is not a duplicate.
            try:
                truncate(handle, self._offset)
            except OSError:
                # The next one to open the file sees for itself what there is: half a row is set aside, a whole one
                # counts, and is then refused as a duplicate.
                reason += ", and what was written of the row could not be taken back"
            raise InputError(
                f"{self.path}: cannot append ({reason}); free space or choose another live.journal"
            ) from None

    def _learn(self, data: bytes, lines: int, keys: Sequence[tuple[str, datetime]]) -> None:
        """Whole lines behind what is known, and the keys in them."""
        for ticker, time in keys:
            self._seen[ticker].add(time)
        self._offset += len(data)
        self._lines += lines
        self._tail = (self._tail + data)[-_TAIL:]

    def _forget(self) -> None:
        self._seen.clear()
        self._offset = self._lines = 0
        self._tail = b""

    def _catch_up(self, handle: int) -> None:
        """Learn the keys other writers added since the last look, and set a torn end aside."""
        found = facts(handle)
        if found.identity != self._identity:
            # Another file than before, or the first look: its entry in the folder may not be on disk yet.
            sync_folder(self.path.parent)
            self._forget()
            self._identity = found.identity
        elif not self._still_there(handle, found.size):
            self._forget()
        while self._offset < found.size:
            block = read_block(lambda size, offset: read_at(handle, size, offset), self._offset)
            if not block:
                self._set_aside(handle, found.size)
                break
            keys = []
            lines = block.split(b"\n")[:-1]
            for number, line in enumerate(lines, self._lines + 1):
                try:
                    row, _ = parse_line(line)
                    keys.append((row["ticker"], parse_time(row["timestamp"])))
                except ValueError as error:
                    self.problems.add("broken", f"{self.path}:{number}: {error}")
            self._learn(block, len(lines), keys)

    def _still_there(self, handle: int, size: int) -> bool:
        """Whether what is known of the file is still its beginning: it may have been cut, and have grown again."""
        start = self._offset - len(self._tail)
        return size >= self._offset and read_at(handle, len(self._tail), start) == self._tail

    def _set_aside(self, handle: int, size: int) -> None:
        """Copy the bytes after the last newline to the side file, then cut them off.

        Killed between the two, the next writer finds the same bytes again and copies them once more: doubled in the
        side file, never lost.

        Raises:
            OSError: the side file does not take them; nothing was cut off.
        """
        torn = read_at(handle, size - self._offset, self._offset)
        note = {
            "found": format_time(datetime.now(UTC)),
            "offset": self._offset,
            "bytes": torn.decode(errors="backslashreplace"),
        }
        line = json.dumps(note, ensure_ascii=False).encode() + b"\n"
        side = open_append(self.torn_path)
        try:
            length = facts(side).size
            if length and read_at(side, 1, length - 1) != b"\n":
                line = b"\n" + line  # an earlier attempt was cut off
            append(side, line)
        finally:
            close(side)
        truncate(handle, self._offset)
        self.problems.add("torn", f"{self.path}: {len(torn)} bytes of an unfinished row moved to {self.torn_path}")
