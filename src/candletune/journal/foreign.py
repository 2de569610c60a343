"""Somebody else's A/B log: lines of JSON objects, one JSON list, or csv, as records with their line numbers."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Final

from candletune.errors import InputError, UsageError

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("timestamp", "time", "ts", "datetime", "date"),
    "ticker": ("ticker", "symbol", "pair", "asset", "coin"),
    "price": ("price", "price_usd", "close"),
    "active": ("active", "incumbent", "original"),
    "shadow": ("shadow", "candidate", "custom"),
    "active_reasoning": ("active_reasoning", "active_reason"),
    "shadow_reasoning": ("shadow_reasoning", "shadow_reason"),
}
"""What a journal needs, and the columns it is looked for in when nobody names one; the reasonings may be missing."""
OPTIONAL: Final = ("active_reasoning", "shadow_reasoning")


@dataclass(frozen=True, slots=True)
class Record:
    """A line of the log: its values by column, or why there are none."""

    line: int
    values: Mapping[str, Any]
    problem: str = ""


def read_log(path: Path) -> list[Record]:
    """Every line that holds anything, in file order.

    Raises:
        InputError: the file cannot be read as text, or is a JSON document of another shape.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    start = text.lstrip()[:1]
    if start == "[":
        return _json_list(path, text)
    if start == "{" or path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return list(_json_lines(text))
    try:
        return list(_csv_lines(text))
    except csv.Error as error:
        raise InputError(f"{path}: not readable as csv ({error}); expected JSON lines, a JSON list, or csv") from None


def _json_list(path: Path, text: str) -> list[Record]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); expected a list of objects, or one a line") from None
    return [_record(number, value) for number, value in enumerate(values, start=1)]


def _json_lines(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _record(number, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Record(number, {}, f"not valid JSON ({error})")


def _record(number: int, value: Any) -> Record:
    if not isinstance(value, dict):
        return Record(number, {}, f"expected an object, got {type(value).__name__}")
    return Record(number, value)


def _csv_lines(text: str) -> Iterator[Record]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    line = reader.line_num + 1
    for cells in reader:
        number, line = line, reader.line_num + 1  # a quoted cell may hold line breaks
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            yield Record(number, {}, f"{len(cells)} cells, expected {len(header)} as in the first line")
        else:
            yield Record(number, dict(zip(header, cells, strict=True)))


def choose_columns(path: Path, records: Sequence[Record], named: Mapping[str, str]) -> dict[str, str]:
    """The log's column of each field.

    Args:
        path: for messages.
        records: of the log.
        named: columns that the user named; one with dots looks into objects (`signals.active`).

    Raises:
        UsageError: a field is unknown, a named column is nowhere, or a needed field has no column.
    """
    present: list[str] = list(dict.fromkeys(name for record in records for name in record.values))
    if unknown := [field for field in named if field not in NAMES]:
        raise UsageError(f"--map {unknown[0]}=...: no such field; known: {', '.join(NAMES)}")
    for field, column in named.items():
        if not any(value_of(record, column) is not None for record in records):
            close = get_close_matches(column, present, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns: {', '.join(present)}"
            raise UsageError(f"--map {field}={column}: {path} has no column {column}; {hint}")
    columns = {
        field: named.get(field) or next((name for name in names if name in present), "")
        for field, names in NAMES.items()
    }
    if missing := [field for field, column in columns.items() if not column and field not in OPTIONAL]:
        raise UsageError(
            f"{path}: no column for {missing[0]}; name it with --map {missing[0]}=COLUMN (columns: "
            f"{', '.join(present) or 'none'})"
        )
    return {field: column for field, column in columns.items() if column}


def value_of(record: Record, column: str) -> Any:
    """A record's value in a column; None where it has none."""
    if column in record.values:
        return record.values[column]
    value: Any = record.values
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
