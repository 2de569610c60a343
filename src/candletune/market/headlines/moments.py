"""Times as files have them: ISO 8601, RFC 822 (RSS), GDELT's digits, seconds or milliseconds since 1970."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""What lies outside is no time of a headline, but a number of something else."""
_KINDS = (str, int, float)
LONGEST = 60
_EPOCH = re.compile(r"\d{9,13}(\.\d{1,9})?")
_DIGITS = "%Y%m%d%H%M%S"
_SPACED_OFFSET = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")
ZONES = frozenset("UT UTC GMT Z AST ADT EST EDT CST CDT MST MDT PST PDT".split())
"""The names that RFC 822 knows (and Canada's); another one cannot be guessed."""
_MIDNIGHT = time()


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, and what had to be assumed about it.

    Attributes:
        at: in UTC.
        assumed_utc: it names no offset and is taken as UTC.
        whole_day: it is a date without a clock; `at` is the end of that day in UTC, when it is over for certain.
    """

    at: datetime
    assumed_utc: bool = False
    whole_day: bool = False


def read_moment(value: Any) -> Moment:
    """A time from a text or a number.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, _KINDS):
        raise ValueError("not a time")
    try:
        text = value.strip() if isinstance(value, str) else f"{value:.6f}"
        if not text or len(text) > LONGEST or not text.isascii():
            raise ValueError("not a time")
        found = _read(text)
    except (OverflowError, OSError, IndexError, TypeError):  # what the standard library raises for odd texts
        raise ValueError("not a time") from None
    if not EARLIEST <= found.at <= LATEST:
        raise ValueError(f"not a time between {EARLIEST.year} and {LATEST.year}")
    return found


def _read(text: str) -> Moment:
    if _EPOCH.fullmatch(text):
        number = float(text)
        return Moment(datetime.fromtimestamp(number / 1000 if number >= 1e11 else number, UTC))
    if text.isdigit() and len(text) == 14:
        return Moment(datetime.strptime(text, _DIGITS).replace(tzinfo=UTC))  # GDELT's, which are in UTC
    return _iso(_SPACED_OFFSET.sub("", text)) if text[:4].isdigit() else _rfc822(text)


def _iso(text: str) -> Moment:
    """ISO 8601, also with UTC or GMT behind it."""
    bare = text.removesuffix(" UTC").removesuffix(" GMT")
    try:
        return _end_of(date.fromisoformat(bare))
    except ValueError:
        at = datetime.fromisoformat(bare)
    if at.tzinfo is None:
        return Moment(at.replace(tzinfo=UTC), assumed_utc=bare == text)
    return Moment(at.astimezone(UTC))


def _rfc822(text: str) -> Moment:
    """`Mon, 01 Jan 2024 12:00:00 GMT`."""
    zone = text.split()[-1].upper()
    if zone.isalpha() and zone not in ZONES:
        raise ValueError(f"the zone {zone[:10]!r} is not known")
    at = parsedate_to_datetime(text)
    if at.tzinfo is None:  # no zone, or -0000: UTC, but not the place's own time
        return Moment(at.replace(tzinfo=UTC), assumed_utc=not text.endswith("-0000"))
    return Moment(at.astimezone(UTC))


def _end_of(day: date) -> Moment:
    return Moment(datetime.combine(day, _MIDNIGHT, UTC) + timedelta(days=1), assumed_utc=True, whole_day=True)
