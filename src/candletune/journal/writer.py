"""Writing a journal: one `write` and one `fsync` under a lock that several processes share."""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from candletune.errors import InputError
from candletune.files import append, make_folder, open_append, truncate
from candletune.journal.reader import read_block
from candletune.journal.rows import DuplicateRow, Problems, Row, check_row, format_time, parse_time


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
            for ticker, time in keys:
                self._seen[ticker].add(time)
            self._offset += len(lines)
            self._lines += len(rows)

    def has(self, ticker: str, time: datetime) -> bool:
        """Whether a row of this ticker and decision time is in the file, whoever wrote it."""
        with self._open():
            return time.astimezone(UTC) in self._seen[ticker]

    def last(self, ticker: str) -> datetime | None:
        """The latest decision time logged for a ticker."""
        with self._open():
            return max(self._seen[ticker], default=None)

    def _open(self) -> "_Locked":
        return _Locked(self)

    def _write(self, handle: int, data: bytes) -> None:
        try:
            append(handle, data)
        except OSError as error:
            # What may be on disk was not acknowledged: take it back, so that a later retry is not a duplicate.
            truncate(handle, self._offset)
            raise InputError(
                f"{self.path}: cannot append ({error}); free space or choose another live.journal"
            ) from None

    def _catch_up(self, handle: int) -> None:
        """Learn the keys other writers added since the last look, and set a torn end aside."""
        size = os.fstat(handle).st_size
        if size < self._offset:
            # Somebody cut or replaced the file: what is known about it no longer holds.
            self._seen.clear()
            self._offset = self._lines = 0
        with self.path.open("rb", buffering=0) as stream:
            while self._offset < size:
                block = read_block(stream, self._offset)
                if not block:
                    self._set_aside(handle, stream, size)
                    break
                for line in block.split(b"\n")[:-1]:
                    self._lines += 1
                    self._offset += len(line) + 1
                    try:
                        value = check_row(json.loads(line))
                        self._seen[value["ticker"]].add(parse_time(value["timestamp"]))
                    except ValueError as error:
                        self.problems.add("broken", f"{self.path}:{self._lines}: {error}")

    def _set_aside(self, handle: int, stream: BinaryIO, size: int) -> None:
        """Copy the bytes after the last newline to the side file, then cut them off.

        Killed between the two, the next writer finds the same bytes again and copies them once more: doubled in the
        side file, never lost.
        """
        stream.seek(self._offset)
        torn = stream.read(size - self._offset)
        note = {
            "found": format_time(datetime.now(UTC)),
            "offset": self._offset,
            "bytes": torn.decode(errors="backslashreplace"),
        }
        side = open_append(self.torn_path)
        try:
            append(side, json.dumps(note, ensure_ascii=False).encode() + b"\n")
        finally:
            os.close(side)
        truncate(handle, self._offset)
        self.problems.add("torn", f"{self.path}: {len(torn)} bytes of an unfinished row moved to {self.torn_path}")


class _Locked:
    """The journal's locks held, its file open for appending, and its keys up to date."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._handle = -1

    def __enter__(self) -> int:
        journal = self._journal
        journal._thread.acquire()
        try:
            journal._lock.acquire(poll_interval=0.002)
        except BaseException:
            journal._thread.release()
            raise
        try:
            self._handle = open_append(journal.path)
            journal._catch_up(self._handle)
        except BaseException:
            self.__exit__()
            raise
        return self._handle

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._journal._lock.release()
        self._journal._thread.release()
