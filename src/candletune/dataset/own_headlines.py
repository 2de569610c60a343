"""The audit's own way to the headlines: Python's csv, json and ElementTree, none of the reader's code.

What a format calls its fields, how titles are cleaned and when two tell one story it shares with the reader. Which
records there are, from when each could be known, and which of them are repeats it finds by itself.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from candletune.config import DataConfig
from candletune.market.headlines.layouts import CONTAINERS, CSV, FEED, JSON, LAYOUTS, Layout, layout_of
from candletune.market.headlines.moments import EARLIEST, LATEST, LONGEST, ZONES
from candletune.market.headlines.repeats import address, story_key
from candletune.market.headlines.text import clean_headline, from_html

_Record = dict[str, Any]
"""A headline as somebody else wrote it."""

_ATOM = "{http://www.w3.org/2005/Atom}"
_RSS_1 = re.compile(r"^\{http://(purl\.org/rss|my\.netscape|backend\.userland)[^}]*\}")
_CHILDREN = {"title": "title", "pubDate": "pubdate", "link": "link", "source": "source"} | {
    f"{_ATOM}{name}": name for name in ("title", "published", "updated")
}
"""An element's name -> the record's, of RSS 2.0 and Atom; RSS 1.0 puts its own namespace before them."""


@dataclass(frozen=True, slots=True)
class OwnHeadline:
    """One record that the prompt may show."""

    at: datetime
    title: str
    polarity: float
    whole: str
    url: str
    key: tuple[str, ...]

    @property
    def address(self) -> str:
        """What is the same for every link to the article; empty where there is none."""
        return address(self.url)


def own_headlines(path: Path, data: DataConfig) -> tuple[OwnHeadline, ...]:
    """What of `data.headlines` tells something for the first time, in time order. The dataset has read all of it."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and _shown(file, path)]
    found = [
        headline
        for file in files
        for layout, record in _records(file, data.headline_format)
        if (headline := _own(record, layout, timedelta(minutes=data.headline_delay))) is not None
    ]
    found.sort(key=lambda one: (one.at, one.title, one.polarity, one.whole, one.url))
    return tuple(
        found if not data.headline_repeat_hours else _first(found, timedelta(hours=data.headline_repeat_hours))
    )


def _shown(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _first(found: list[OwnHeadline], window: timedelta) -> Iterator[OwnHeadline]:
    """The first telling of each story, looked for among all stories that are young enough."""
    stories: list[tuple[datetime, set[Any]]] = []
    for headline in found:
        marks = {headline.key, headline.address} - {""}
        stories = [(at, known) for at, known in stories if headline.at - at <= window]
        by_address = [known for _, known in stories if headline.address in known]
        same = by_address or [known for _, known in stories if headline.key in known]
        if same:
            same[0].update(marks.difference(*(known for _, known in stories)))
        else:
            stories.append((headline.at, marks))
            yield headline


def _own(record: Mapping[str, Any], layout: Layout, delay: timedelta) -> OwnHeadline | None:
    """None where the record cannot be used."""
    try:
        text = _value(record, layout.title) or ""
        text = from_html(text) if layout.html else text
        whole = clean_headline(text, limit=len(text) + 1)
        seen = _value(record, layout.seen)
        stamps = [_value(record, layout.published), *(record.get(name) for name in layout.noted), seen]
        times = [_moment(stamp) for stamp in stamps if not _blank(stamp)]
        if not all(EARLIEST <= time <= LATEST for time in times):
            return None
        at = max(times)
        polarity = float(_value(record, layout.polarity) or 0.0)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        return None
    publisher = _value(record, layout.source)
    if isinstance(publisher, dict):
        publisher = publisher.get("title") or publisher.get("name") or publisher.get("domain")
    key = story_key(whole, from_html(publisher) if isinstance(publisher, str) else "")
    where = _value(record, layout.url)
    known = at + (timedelta(0) if seen else delay)
    if not whole:
        return None
    url = where.strip() if isinstance(where, str) else ""
    return OwnHeadline(known, clean_headline(text), polarity, whole, url, key)


def _value(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if not _blank(record.get(name))), None)


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() == "")


def _records(path: Path, format_: str) -> list[tuple[Layout, Mapping[str, Any]]]:
    """Each record with its names in lower case."""
    raw = path.read_bytes()
    start = raw.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]
    if start == b"<":
        found, otherwise = list(_items(raw)), FEED
    elif start in (b"{", b"["):
        found, otherwise = [record for document in _documents(raw) for record in _flat(document)], JSON
    else:
        found, otherwise = list(_lines(path)), CSV
    lowered = [{str(name).strip().lower(): value for name, value in record.items()} for record in found]
    set_to = None if format_ == "auto" else LAYOUTS[format_]
    layout = set_to or (FEED if otherwise is FEED else layout_of(lowered, otherwise=otherwise))
    return [(layout, record) for record in lowered]


def _lines(path: Path) -> Iterator[_Record]:
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", " ")
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _documents(raw: bytes) -> list[Any]:
    text = raw.decode("utf-8-sig")
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def _flat(document: Any) -> Iterator[_Record]:
    if isinstance(document, list):
        for entry in document:
            yield from _flat(entry)
    elif isinstance(document, dict) and document:
        inner = next((document[key] for key in CONTAINERS if isinstance(document.get(key), list)), None)
        yield from [document] if inner is None else _flat(inner)


def _items(raw: bytes) -> Iterator[_Record]:
    # The dataset's reader has refused every file that declares an entity.
    for element in ElementTree.fromstring(raw).iter():  # noqa: S314
        if element.tag.rsplit("}", 1)[-1] not in ("item", "entry"):
            continue
        record: dict[str, str] = {}
        for child in element:
            name = _CHILDREN.get(_RSS_1.sub("", child.tag))
            name = "pubdate" if child.tag == "{http://purl.org/dc/elements/1.1/}date" else name
            if name is not None:
                record.setdefault(name, "".join(child.itertext()).strip())
            if child.tag == f"{_ATOM}link" and child.get("rel", "alternate") == "alternate":
                record.setdefault("link", child.get("href", ""))
        yield record


def _moment(stamp: Any) -> datetime:
    if isinstance(stamp, bool):
        raise TypeError("no time")
    if isinstance(stamp, int | float):
        return datetime.fromtimestamp(stamp / 1000 if stamp >= 1e11 else stamp, UTC)
    text = stamp.strip()
    if len(text) > LONGEST or not text.isascii():
        raise ValueError(text)
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text):
        return datetime.combine(date.fromisoformat(text) + timedelta(days=1), datetime.min.time(), UTC)
    if re.fullmatch(r"\d{14}", text):
        text = f"{text[:8]}T{text[8:]}"
    if re.fullmatch(r"[\d.]{9,}", text):
        return _moment(float(text))
    if not text[:4].isdigit():
        zone = text.split()[-1].upper()
        if zone.isalpha() and zone not in ZONES:
            raise ValueError(text)
        at = parsedate_to_datetime(text)
    else:
        at = datetime.fromisoformat(re.sub(r" ?(UTC|GMT)$", "", re.sub(r"\s+(?=[+-]\d\d:?\d\d$)", "", text)))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
