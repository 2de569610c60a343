"""The append-only A/B log: what incumbent and candidate answered at each decision time.

JSON lines, `SCHEMA` on every row. A row is one `write` and one `fsync` under a lock that several processes share, so a
row that `append` returned for is on disk once, whole. A line without its newline was never acknowledged: the next
writer moves it to a side file (`ab_test_log.jsonl.torn`) and counts it. Reading streams, never waits for a writer, and
never hands out half a line.
"""

import json
import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import polars as pl
from filelock import FileLock

from candletune.decisions import DECISIONS, Decision
from candletune.errors import InputError

SCHEMA: Final = 1
SIDES: Final = ("active", "shadow")
STATUSES: Final = ("ok", "invalid", "skipped", "error")
Status = Literal["ok", "invalid", "skipped", "error"]
Mode = Literal["replay", "shadow"]
_BLOCK = 16 << 20
_SIDE = {
    "action": pl.String(),
    "status": pl.String(),
    "reasoning": pl.String(),
    "probabilities": pl.Struct(dict.fromkeys(DECISIONS, pl.Float64())),
    "latency_ms": pl.Float64(),
    "adapter_sha256": pl.String(),
    "error": pl.String(),
}
_ROW: dict[str, pl.DataType] = {
    "schema": pl.Int64(),
    # Parsed after the JSON: twice as fast as inside it.
    "timestamp": pl.String(),
    "ticker": pl.String(),
    "price": pl.Float64(),
    "mode": pl.String(),
    "late": pl.Boolean(),
    "forced": pl.Boolean(),
    "prompt_sha256": pl.String(),
    "template_sha256": pl.String(),
    "base_sha256": pl.String(),
    "active": pl.Struct(_SIDE),
    "shadow": pl.Struct(_SIDE),
}


class DuplicateRow(InputError):
    """The journal already holds a row of this ticker and decision time."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one model did in a cycle.

    Attributes:
        status: ok, invalid (an answer that does not parse), skipped (not asked) or error (asked, no answer).
        action: the decision; present exactly when the status is ok.
        reasoning: the sentence, when one was generated.
        probabilities: of BUY, SELL and HOLD, when they were computed.
        latency_ms: milliseconds from asking to the answer.
        adapter_sha256: the adapter's hash; None for the bare base.
        error: what went wrong, in one line.
    """

    status: Status
    action: Decision | None = None
    reasoning: str | None = None
    probabilities: Mapping[Decision, float] | None = None
    latency_ms: float | None = None
    adapter_sha256: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES or (self.action in DECISIONS) != (self.status == "ok"):
            raise ValueError(f"a side with status {self.status!r} can't carry the action {self.action!r}")

    def record(self) -> dict[str, Any]:
        """The JSON object of this side."""
        return {name: getattr(self, name) for name in _SIDE}


@dataclass(frozen=True, slots=True)
class Row:
    """One cycle of one ticker.

    Attributes:
        timestamp: the decision time (the candle's close), with a time zone.
        late: the candle was caught up after a pause, so the active answer came too late to act on.
        forced: part of a replay over rows the training saw.
    """

    timestamp: datetime
    ticker: str
    price: float
    prompt_sha256: str
    template_sha256: str
    base_sha256: str
    active: Side
    shadow: Side
    mode: Mode = "shadow"
    late: bool = False
    forced: bool = False

    def __post_init__(self) -> None:
        if self.timestamp.tzinfo is None or not self.ticker:
            raise ValueError(f"a row needs a ticker and a time with a zone, got {self.ticker!r} {self.timestamp!r}")

    def line(self) -> bytes:
        """The row as one JSON line with its newline; `ValueError` when a number is not finite."""
        value = {
            "schema": SCHEMA,
            "timestamp": format_time(self.timestamp),
            "ticker": self.ticker,
            "price": self.price,
            "mode": self.mode,
            "late": self.late,
            "forced": self.forced,
            "prompt_sha256": self.prompt_sha256,
            "template_sha256": self.template_sha256,
            "base_sha256": self.base_sha256,
            "active": self.active.record(),
            "shadow": self.shadow.record(),
        }
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class Problems:
    """What a reader met and left out, counted; `notes` has the first few with their line numbers."""

    torn: int = 0
    broken: int = 0
    duplicates: int = 0
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.torn or self.broken or self.duplicates)

    def add(self, kind: Literal["torn", "broken", "duplicates"], note: str) -> None:
        """Count one problem."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.notes) < 20:
            self.notes.append(note)


def format_time(time: datetime) -> str:
    """ISO 8601 in UTC with a trailing Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; `ValueError` for a time without a zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time.astimezone(UTC)


# --- writing -----------------------------------------------------------------------------------------------------


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
        path.parent.mkdir(parents=True, exist_ok=True)
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

    def _open(self) -> "_Held":
        return _Held(self)

    def _write(self, handle: int, data: bytes) -> None:
        try:
            if os.write(handle, data) != len(data):
                raise OSError("short write; is the disk full?")
            os.fsync(handle)
        except OSError as error:
            # What may be on disk was not acknowledged: take it back, so that a later retry is not a duplicate.
            os.ftruncate(handle, self._offset)
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
                block = _read_block(stream, self._offset)
                if not block:
                    self._set_aside(handle, stream, size)
                    break
                for line in block.split(b"\n")[:-1]:
                    self._lines += 1
                    self._offset += len(line) + 1
                    try:
                        value = _check(json.loads(line))
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
        side = os.open(self.torn_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
        try:
            os.write(side, json.dumps(note, ensure_ascii=False).encode() + b"\n")
            os.fsync(side)
        finally:
            os.close(side)
        os.ftruncate(handle, self._offset)
        os.fsync(handle)
        self.problems.add("torn", f"{self.path}: {len(torn)} bytes of an unfinished row moved to {self.torn_path}")


_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class _Held:
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
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY
            self._handle = os.open(journal.path, flags, 0o644)
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


# --- reading -----------------------------------------------------------------------------------------------------


def read_rows(path: Path, *, problems: Problems | None = None) -> Iterator[dict[str, Any]]:
    """Stream a journal's rows as they are in the file, without a lock.

    An unfinished last line is left out (a writer may be at it). Broken lines are counted in `problems`; without it they
    are errors.

    Raises:
        InputError: the file is missing, a line is broken (and `problems` is not given), or its schema is not `SCHEMA`.
    """
    for block in _blocks(path, problems):
        yield from block.rows(problems)


def read_frame(path: Path, *, problems: Problems | None = None) -> pl.DataFrame:
    """A whole journal as a frame, in file order.

    Columns: timestamp (UTC), ticker, price, mode, late, forced, prompt_sha256, template_sha256, base_sha256, and for
    `active_` and `shadow_` each: action, status, reasoning, p_buy, p_sell, p_hold, latency_ms, adapter, error.
    A second row of a ticker and time is an error, or counted in `problems` and left out.

    Raises:
        InputError: as `read_rows`, and for duplicates.
    """
    frames = [_flatten(block.frame(problems)) for block in _blocks(path, problems)]
    frame = pl.concat(frames) if frames else _flatten(_parse_block(b""))
    first = frame.select(pl.struct("ticker", "timestamp").is_first_distinct()).to_series()
    if first.all():
        return frame
    again = frame.filter(~first).row(0, named=True)
    note = f"{path}: more than one row for {again['ticker']} at {format_time(again['timestamp'])}"
    if problems is None:
        raise InputError(f"{note}; keep one of them")
    problems.duplicates += int((~first).sum()) - 1
    problems.add("duplicates", note)
    return frame.filter(first)


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines, read at once."""

    path: Path
    offset: int
    first_line: int
    data: bytes

    def rows(self, problems: Problems | None) -> Iterator[dict[str, Any]]:
        offset = self.offset
        for number, line in enumerate(self.data.split(b"\n")[:-1], self.first_line):
            try:
                value = self._parse(line, offset)
            except ValueError as error:
                self._broken(number, error, problems)
                continue
            finally:
                offset += len(line) + 1
            if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
                raise InputError(
                    f"{self.path}:{number}: schema {value['schema']!r}, expected {SCHEMA}; read it with the candletune "
                    "that wrote it"
                )
            try:
                yield _check(value)
            except ValueError as error:
                self._broken(number, error, problems)

    def _parse(self, line: bytes, offset: int) -> Any:
        try:
            return json.loads(line)
        except ValueError:
            # One read may catch the head of a torn line and the tail of the row that replaced it.
            with self.path.open("rb") as stream:
                stream.seek(offset)
                again = stream.read(len(line))
            if again == line:
                raise
            return json.loads(again)

    def frame(self, problems: Problems | None) -> pl.DataFrame:
        """All rows at once; line by line only where that fails, to name the line or count it."""
        try:
            frame = _parse_block(self.data)
        except pl.exceptions.PolarsError:
            frame = None
        if frame is not None and _sound(frame) and len(frame) == self.data.count(b"\n"):
            return frame
        return _parse_block("".join(json.dumps(row) + "\n" for row in self.rows(problems)).encode())

    def _broken(self, number: int, error: ValueError, problems: Problems | None) -> None:
        note = f"{self.path}:{number}: not a journal row ({error})"
        if problems is None:
            raise InputError(f"{note}; move that line out of the file")
        problems.add("broken", note)


def _blocks(path: Path, problems: Problems | None) -> Iterator[_Block]:
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: journal cannot be read ({error.strerror}); check the path") from None
    with stream:
        offset, line = 0, 1
        while block := _read_block(stream, offset):
            yield _Block(path, offset, line, block)
            offset += len(block)
            line += block.count(b"\n")
        stream.seek(offset)
        if problems is not None and stream.read(1):
            problems.add("torn", f"{path}:{line}: unfinished last line")


def _read_block(stream: BinaryIO, offset: int) -> bytes:
    """Whole lines from `offset`, about `_BLOCK` bytes; empty at the end.

    The part after the last newline is read again next time, never kept: a writer may have replaced it by then.
    """
    size = _BLOCK
    while True:
        stream.seek(offset)
        data = stream.read(size)
        cut = data.rfind(b"\n") + 1
        if cut or len(data) < size:
            return data[:cut]
        size *= 2


def _check(value: Any) -> dict[str, Any]:
    """The row, when it has what every reader relies on; else `ValueError` that says what is wrong."""
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    if value.get("schema") != SCHEMA:
        raise ValueError(f"schema {value.get('schema')!r}, expected {SCHEMA}")
    if not isinstance(value.get("ticker"), str) or not isinstance(value.get("timestamp"), str):
        raise ValueError("ticker or timestamp is missing")
    parse_time(value["timestamp"])
    price = value.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price):
        raise ValueError(f"price {price!r} is not a number")
    for name in SIDES:
        side = value.get(name)
        if not isinstance(side, dict) or side.get("status") not in STATUSES:
            raise ValueError(f"{name} has no status")
        if (side.get("action") in DECISIONS) != (side["status"] == "ok"):
            raise ValueError(f"{name} has status {side['status']!r} and action {side.get('action')!r}")
    return value


def _parse_block(data: bytes) -> pl.DataFrame:
    frame = pl.read_ndjson(BytesIO(data), schema=_ROW) if data else pl.DataFrame(schema=_ROW)
    return frame.with_columns(pl.col("timestamp").str.to_datetime("%+", time_unit="us", time_zone="UTC"))


def _sound(frame: pl.DataFrame) -> bool:
    """`_check` for a whole frame."""
    good = (pl.col("schema") == SCHEMA) & pl.col("ticker").is_not_null() & pl.col("timestamp").is_not_null()
    good &= pl.col("price").is_finite()
    for name in SIDES:
        side = pl.col(name).struct
        status = side.field("status")
        good &= status.is_in(STATUSES) & (side.field("action").is_in(DECISIONS).fill_null(False) == (status == "ok"))
    return bool(frame.select(good.fill_null(False).all()).item())


def _flatten(frame: pl.DataFrame) -> pl.DataFrame:
    columns: list[pl.Expr | str] = ["timestamp", "ticker", "price", pl.col("mode").fill_null("shadow")]
    columns += [pl.col(name).fill_null(False) for name in ("late", "forced")]
    columns += ["prompt_sha256", "template_sha256", "base_sha256"]
    for name in SIDES:
        side = pl.col(name).struct
        columns += [side.field(key).alias(f"{name}_{key}") for key in ("action", "status", "reasoning")]
        chances = side.field("probabilities").struct
        columns += [chances.field(decision).alias(f"{name}_p_{decision.lower()}") for decision in DECISIONS]
        columns.append(side.field("latency_ms").alias(f"{name}_latency_ms"))
        columns.append(side.field("adapter_sha256").alias(f"{name}_adapter"))
        columns.append(side.field("error").alias(f"{name}_error"))
    return frame.select(columns)
