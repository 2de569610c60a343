"""Files taken apart into records: what is a record's meaning is not asked here."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from candletune.market.headlines.feeds import NotAFeed, feed_records
from candletune.market.headlines.layouts import (
    CONTAINERS,
    CSV,
    FEED,
    JSON,
    LAYOUTS,
    Layout,
    layout_of,
    lowered,
)

Kind = Literal["csv", "json", "xml"]
Records = Iterator[tuple[str, Any]]
"""A place for people, and what stands there."""
_PAGES_DEEP: Final = 3
_EXPECTED: Final = "expected csv columns published_at, title and, where you have them, seen_at, polarity, url"


class NotReadable(ValueError):
    """A whole file that cannot be read: what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file's records and the format they are of."""

    layout: Layout
    records: list[tuple[str, Any]]


def kind_of(data: bytes) -> Kind:
    """What a file is, by its first character."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0")
    return "xml" if head.startswith(b"<") else "json" if head.startswith((b"{", b"[")) else "csv"


def take_apart(data: bytes, format_: str) -> Taken:
    """The records of a file, by the format that is set, or by its content with `auto`.

    Raises:
        NotReadable: it is not of the format, or broken.
    """
    kind = kind_of(data)
    kinds = {"csv": ("csv",), "json": ("json",), "cryptopanic": ("json",), "gdelt": ("json", "csv"), "feed": ("xml",)}
    if format_ != "auto" and kind not in kinds[format_]:
        raise NotReadable(f"looks like {kind}, but data.headline_format is {format_}; correct it, or set auto")
    set_to = None if format_ == "auto" else LAYOUTS[format_]
    if kind == "xml":
        return Taken(FEED, _feed(data))
    if kind == "json":
        found = list(_flat(_documents(_text(data)), _PAGES_DEEP))
        names = (lowered(record) for _, record in found if isinstance(record, dict))
        return Taken(set_to or layout_of(names, otherwise=JSON), found)
    table = _table(data)
    header = [name.strip().lower() for name in table.columns]
    layout = set_to or layout_of([header], otherwise=CSV)
    for what, wanted_names in (("title", layout.title), ("time", (*layout.published, *layout.noted, *layout.seen))):
        if not set(wanted_names) & set(header):
            columns = ", ".join(map(ascii, table.columns[:8]))[:100]
            raise NotReadable(f"not a headline file (no column {what}; it has {columns}); {_EXPECTED}")
    return Taken(layout, _lines(table))


def _feed(data: bytes) -> list[tuple[str, Any]]:
    try:
        return list(feed_records(data))
    except NotAFeed as error:
        raise NotReadable(f"not an RSS or Atom feed ({error}); fetch it again, or mend it there") from None


def _table(data: bytes) -> pl.DataFrame:
    # Line ends are \n or \r\n; a \r alone is a blank, which readers of csv do not agree on.
    text = _text(data).replace("\r\n", "\n").replace("\r", " ")
    try:
        table = pl.read_csv(io.StringIO(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:100]
        raise NotReadable(f"not a headline file ({reason}); {_EXPECTED}") from None
    return table


def _lines(table: pl.DataFrame) -> list[tuple[str, Any]]:
    return [(f"line {number}", row) for number, row in enumerate(table.iter_rows(named=True), 2)]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise NotReadable(f"line {line}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _documents(text: str) -> Iterator[tuple[str, Any]]:
    """The whole text, or each of its lines where they are documents by themselves."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and lines[1][1].lstrip()[:1] in "[{" and _alone(lines[0][1]):
        for number, line in lines:
            yield f"line {number}", _parsed(line, number)
    else:
        yield "", _parsed(text, 1)


def _alone(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = line + error.lineno - 1
        raise NotReadable(f"line {where}: not JSON ({error.msg}); mend or remove it there") from None
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting beyond every record's
        raise NotReadable(f"line {line}: JSON with a number too long or nested too deeply; remove it") from None


def _flat(documents: Iterator[tuple[str, Any]], depth: int) -> Records:
    """Records out of lists, pages (`results`, `articles`, ...) and lists of pages."""
    for place, document in documents:
        inner = _inner(document) if depth else None
        if inner is None:
            yield place or "record 1", document
        else:
            name = f"{place}, " if place else ""
            word = "page" if any(_inner(entry) is not None for entry in inner[:1]) else "record"
            yield from _flat(((f"{name}{word} {number}", entry) for number, entry in enumerate(inner, 1)), depth - 1)


def _inner(document: Any) -> list[Any] | None:
    """What a document holds: None when it is a record by itself."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    if not document:
        return []  # GDELT's answer when nothing was found
    return next((document[key] for key in CONTAINERS if isinstance(document.get(key), list)), None)
