"""Reading a journal: a stream of rows or a whole frame, without a lock, and never half a line."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.journal.rows import (
    SCHEMA,
    SIDES,
    STATUSES,
    OtherSchema,
    Problems,
    RowRecord,
    format_time,
    has_seal,
    parse_line,
    parse_time,
)

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


def read_rows(path: Path, *, problems: Problems | None = None) -> Iterator[RowRecord]:
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

    def rows(self, problems: Problems | None) -> Iterator[RowRecord]:
        offset = self.offset
        for number, line in enumerate(self.data.split(b"\n")[:-1], self.first_line):
            try:
                row, checked = self._parse(line, offset)
            except OtherSchema as error:
                raise InputError(f"{self.path}:{number}: {error}; read it with the candletune that wrote it") from None
            except ValueError as error:
                self._broken(number, error, problems)
                continue
            finally:
                offset += len(line) + 1
            if problems is not None:
                problems.unchecked += not checked
            yield row

    def _parse(self, line: bytes, offset: int) -> tuple[RowRecord, bool]:
        try:
            return parse_line(line)
        except ValueError:
            # One read may catch the head of a torn line and the tail of the row that replaced it.
            with self.path.open("rb") as stream:
                stream.seek(offset)
                again = stream.read(len(line))
            if again == line:
                raise
            return parse_line(again)

    def frame(self, problems: Problems | None) -> pl.DataFrame:
        """All rows at once where every one has a checksum that holds; else line by line, to name or count them."""
        if self._all_checked():
            try:
                frame = _parse_block(self.data)
            except pl.exceptions.PolarsError:
                frame = None
            if frame is not None and _sound(frame) and len(frame) == self.data.count(b"\n"):
                return frame
        return _parse_block("".join(json.dumps(_known(row)) + "\n" for row in self.rows(problems)).encode())

    def _all_checked(self) -> bool:
        try:
            return all(has_seal(line) for line in self.data.split(b"\n")[:-1])
        except ValueError:
            return False

    def _broken(self, number: int, error: ValueError, problems: Problems | None) -> None:
        note = f"{self.path}:{number}: not a journal row ({error})"
        if problems is None:
            raise InputError(f"{note}; `candletune journal repair` takes such lines out, and keeps a copy")
        problems.add("broken", note)


def _blocks(path: Path, problems: Problems | None) -> Iterator[_Block]:
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: journal cannot be read ({error.strerror}); check the path") from None
    with stream:
        offset, line = 0, 1

        def read(size: int, at: int) -> bytes:
            stream.seek(at)
            return stream.read(size)

        while block := read_block(read, offset):
            yield _Block(path, offset, line, block)
            offset += len(block)
            line += block.count(b"\n")
        stream.seek(offset)
        if problems is not None and stream.read(1):
            problems.add("torn", f"{path}:{line}: unfinished last line")


def read_block(read: Callable[[int, int], bytes], offset: int) -> bytes:
    """Whole lines from `offset`, about `_BLOCK` bytes; empty at the end. `read` takes a size and an offset.

    The part after the last newline is read again next time, never kept: a writer may have replaced it by then.
    """
    size = _BLOCK
    while True:
        data = read(size, offset)
        cut = data.rfind(b"\n") + 1
        if cut or len(data) < size:
            return data[:cut]
        size *= 2


def _parse_block(data: bytes) -> pl.DataFrame:
    frame = pl.read_ndjson(BytesIO(data), schema=_ROW) if data else pl.DataFrame(schema=_ROW)
    return frame.with_columns(pl.col("timestamp").str.to_datetime("%+", time_unit="us", time_zone="UTC"))


def _known(row: RowRecord) -> dict[str, Any]:
    """A row's keys that the frame has, its time in the one form that Polars reads."""
    known: dict[str, Any] = {name: row.get(name) for name in _ROW}
    for side in SIDES:
        values: Mapping[str, Any] = known[side]
        chances = values.get("probabilities")
        known[side] = {name: values.get(name) for name in _SIDE} | {
            "latency_ms": _float(values.get("latency_ms")),
            "probabilities": chances and {name: _float(chances.get(name)) for name in DECISIONS},
        }
    return known | {"timestamp": format_time(parse_time(row["timestamp"])), "price": float(row["price"])}


def _float(number: float | None) -> float | None:
    """Polars refuses long integers where it wants a float."""
    return None if number is None else float(number)


def _sound(frame: pl.DataFrame) -> bool:
    """`check_row` for a whole frame."""
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
        probabilities = side.field("probabilities").struct
        columns += [probabilities.field(decision).alias(f"{name}_p_{decision.lower()}") for decision in DECISIONS]
        columns.append(side.field("latency_ms").alias(f"{name}_latency_ms"))
        columns.append(side.field("adapter_sha256").alias(f"{name}_adapter"))
        columns.append(side.field("error").alias(f"{name}_error"))
    return frame.select(columns)
