"""Look through a journal, and take out what is no row of it; the file as it was is kept beside."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock

from candletune.errors import InputError
from candletune.files import atomic_path, copy, locked, write_pieces
from candletune.hashes import sha256_path
from candletune.journal.rows import OtherSchema, format_time, parse_line, parse_time

Kind = Literal["broken", "duplicate", "torn"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is no row of the journal.

    Attributes:
        line: its number, from 1.
        kind: `broken` (no row, or its checksum does not hold), `duplicate` (its ticker has a row at that time), `torn`
            (a last line without its end).
        why: in words.
    """

    line: int
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True)
class Examination:
    """What a journal holds.

    Attributes:
        rows: good ones.
        unchecked: those of them from before there were checksums.
        faults: every other line.
    """

    rows: int
    unchecked: int
    faults: tuple[Fault, ...]

    @property
    def headline(self) -> str:
        """The counts in one line."""
        counts = {kind: sum(fault.kind == kind for fault in self.faults) for kind in ("broken", "duplicate", "torn")}
        found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing wrong"
        unchecked = f" ({self.unchecked} of them without a checksum)" if self.unchecked else ""
        return f"{self.rows} rows{unchecked}, {found}"


def examine(path: Path) -> Examination:
    """Read every line; nothing is written, and no writer is waited for.

    Raises:
        InputError: the file cannot be read, or a row is of a later candletune.
    """
    rows = unchecked = 0
    faults = []
    for _, verdict in _lines(path):
        if isinstance(verdict, Fault):
            faults.append(verdict)
        else:
            rows += 1
            unchecked += not verdict
    return Examination(rows, unchecked, tuple(faults))


def repair(path: Path) -> tuple[Examination, Path | None]:
    """Take out every line that is no row; good ones stay byte for byte, in their order.

    Writers wait meanwhile, and go on with the new file.

    Returns:
        What was found, and where the file as it was is kept (None: nothing was wrong, and nothing was done).

    Raises:
        InputError: the file cannot be read, its copy does not fit, or a row is of a later candletune; it is as it was.
    """
    try:
        with locked(FileLock(path.with_name(path.name + ".lock"))):
            found = examine(path)
            if not found.faults:
                return found, None
            kept = _copy_beside(path)
            with atomic_path(path) as temporary:
                write_pieces(temporary, (line for line, verdict in _lines(path) if not isinstance(verdict, Fault)))
            return found, kept
    except OSError as error:
        raise InputError(
            f"{path}: cannot be repaired ({error.strerror or error}), and is as it was; free space, or check its folder"
        ) from None


def _copy_beside(path: Path) -> Path:
    """A copy under a name that none has yet, equal byte for byte."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (f"{path.name}.{stamp}{suffix}.before-repair" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    kept = next(place for name in names if not (place := path.with_name(name)).exists())
    copy(path, kept)
    if sha256_path(kept) != sha256_path(path):
        raise InputError(f"{path}: was changed while it was copied; stop what writes to it and try again")
    return kept


def _lines(path: Path) -> Iterator[tuple[bytes, Fault | bool]]:
    """Every line, and what is wrong with it; of a good one whether it has a checksum."""
    seen: dict[tuple[str, datetime], int] = {}
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: journal cannot be read ({error.strerror}); check the path") from None
    with stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                yield line, Fault(number, "torn", f"{len(line)} bytes of an unfinished row")
                return
            try:
                row, checked = parse_line(line.removesuffix(b"\n"))
            except OtherSchema as error:
                raise InputError(f"{path}:{number}: {error}; use the candletune that wrote it") from None
            except ValueError as error:
                yield line, Fault(number, "broken", " ".join(str(error).split())[:200])
                continue
            key = (row["ticker"], parse_time(row["timestamp"]))
            if key in seen:
                why = f"{key[0]} at {format_time(key[1])} is in line {seen[key]} already"
                yield line, Fault(number, "duplicate", why)
                continue
            seen[key] = number
            yield line, checked
