"""Reading a journal: a stream of rows or a whole frame, without a lock, and never half a line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.journal.rows import SCHEMA, SIDES, STATUSES, Problems, RowRecord, check_row, format_time

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
                yield check_row(value)
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
        while block := read_block(stream, offset):
            yield _Block(path, offset, line, block)
            offset += len(block)
            line += block.count(b"\n")
        stream.seek(offset)
        if problems is not None and stream.read(1):
            problems.add("torn", f"{path}:{line}: unfinished last line")


def read_block(stream: BinaryIO, offset: int) -> bytes:
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


def _parse_block(data: bytes) -> pl.DataFrame:
    frame = pl.read_ndjson(BytesIO(data), schema=_ROW) if data else pl.DataFrame(schema=_ROW)
    return frame.with_columns(pl.col("timestamp").str.to_datetime("%+", time_unit="us", time_zone="UTC"))


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
