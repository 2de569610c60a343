"""A headline of a record: its title, from when it could be known, and what is wrong with it."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from candletune.market.headlines.layouts import Layout, lowered
from candletune.market.headlines.moments import Moment, read_moment
from candletune.market.headlines.text import cleaned, from_html, shortened

_SHOWN: Final = 40
_CODE: Final = re.compile(r"\s*[\w.$-]{1,20}\s*$", re.ASCII)
"""A ticker."""
_TICKERS: Final = 50
"""Currencies that a record may name; a list of hundreds names none in particular."""


class Broken(ValueError):
    """A record that cannot be used, and why."""


class Untitled(Broken):
    """It has no title: there is nothing to show."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One headline.

    Attributes:
        known_at: from when a trader could have known it.
        title: safe for a prompt.
        whole: the same, uncut, by which repeats are found.
        polarity: -1 to 1; 0 where the file has none.
        url: of the article; empty where the file has none.
        source: its publisher's name; empty where the file has none.
        tickers: currencies that it is filed under, upper case.
        assumed_utc: a time without an offset was taken as UTC.
        whole_day: a date without a clock was taken as the end of that day.
        seen: the file says when it was fetched.
    """

    known_at: datetime
    title: str
    whole: str
    polarity: float
    url: str
    source: str
    tickers: tuple[str, ...]
    assumed_utc: bool
    whole_day: bool
    seen: bool


def headline_of(record: Any, layout: Layout, delay: timedelta) -> Headline:
    """The headline of a record.

    Known from the time on at which it was fetched, where the file says so, and never before its own times. Else from
    the latest of its times on (published, noted by the service, changed) plus the delay.

    Args:
        record: as it stands in the file.
        layout: of the format.
        delay: from publication until one could have known it.

    Raises:
        Broken: the key that is wrong, and how.
    """
    if not isinstance(record, Mapping):
        raise Broken(f"is {_kind(record)}, not an object")
    named = lowered(record)
    whole = cleaned(_title(named, layout))
    if not whole:
        raise Untitled("has no title")
    published = [*_moments(named, layout.published, first=True), *_moments(named, layout.noted, first=False)]
    seen = _moments(named, layout.seen, first=True)
    if not published and not seen:
        raise Broken(f"has no {layout.required}; a headline without its time cannot be used")
    times = [*published, *seen]
    earliest = max(moment.at for moment in times)
    known = earliest if seen else earliest + delay
    return Headline(
        known,
        shortened(whole),
        whole,
        _polarity(named, layout),
        _text(_first(named, layout.url)),
        _name(_first(named, layout.source)),
        _tickers(_first(named, layout.tickers)),
        any(moment.assumed_utc for moment in times),
        any(moment.whole_day for moment in times),
        bool(seen),
    )


def _title(record: Mapping[str, Any], layout: Layout) -> str:
    value = _first(record, layout.title)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Broken(f"title is {_kind(value)}, not a text")
    return from_html(value) if layout.html else value


def _moments(record: Mapping[str, Any], names: Sequence[str], *, first: bool) -> list[Moment]:
    """The times of these names; of the first that the record has only, where the others say the same."""
    found: list[Moment] = []
    for name in names:
        if name not in record or _missing(record[name]):
            continue
        try:
            found.append(read_moment(record[name]))
        except ValueError as error:
            raise Broken(f"{name} is {_shown(record[name])}: {error}") from None
        if first:
            break
    return found


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of these names that the record has one for."""
    for name in names:
        if name in record and not _missing(record[name]):
            return record[name]
    return None


def _polarity(record: Mapping[str, Any], layout: Layout) -> float:
    value = _first(record, layout.polarity)
    if value is None:
        return 0.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not -1 <= number <= 1:
        raise Broken(f"polarity is {_shown(value)}, expected -1 to 1")
    return number


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _name(value: Any) -> str:
    """A publisher's name: a text, or CryptoPanic's and NewsAPI's object that holds it."""
    if isinstance(value, Mapping):
        value = value.get("title") or value.get("name") or value.get("domain")
    return html.unescape(_text(value))


def _tickers(value: Any) -> tuple[str, ...]:
    """Codes out of `BTC, ETH`, of a list of them, or of CryptoPanic's list of objects."""
    if isinstance(value, str):
        value = value.replace(",", " ").replace(";", " ").replace("|", " ").split()
    if not isinstance(value, list) or len(value) > _TICKERS:
        return ()
    codes = [entry.get("code") if isinstance(entry, Mapping) else entry for entry in value]
    return tuple(sorted({code.strip().upper() for code in codes if isinstance(code, str) and _CODE.match(code)}))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    if not isinstance(value, str | float | int):
        return _kind(value)
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
