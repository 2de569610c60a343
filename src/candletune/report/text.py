"""Numbers and times as people read them: signed, rounded to what is known, never `nan`."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

MISSING = "–"
NAMES: Final = {"shadow": "Candidate", "active": "Incumbent"}
"""What people call the sides of a journal, in the order of every legend and table."""
_MINUS = "\N{MINUS SIGN}"


def is_number(value: Any) -> bool:
    """True for a finite int or float that is not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any, digits: int = 1, *, signed: bool = False) -> str:
    """A share as a percentage: 0.4321 -> `43.2 %`; with `signed` `+43.2 %`."""
    if not is_number(value):
        return MISSING
    text = f"{value * 100:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", _MINUS) + "\N{NO-BREAK SPACE}%"


def points(value: Any, digits: int = 1) -> str:
    """A difference of two shares in percentage points: 0.0512 -> `+5.1 pp`."""
    return percent(value, digits, signed=True).replace("%", "pp")


def nats(value: Any) -> str:
    """A difference of log probabilities: 0.0512 -> `0.051 nats`."""
    return f"{number(value)}\N{NO-BREAK SPACE}nats" if is_number(value) else MISSING


def number(value: Any, digits: int = 3) -> str:
    """A plain number with a thousands separator; ints keep all their digits."""
    if not is_number(value):
        return MISSING
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", _MINUS)
    size = abs(value)
    text = f"{value:,.{digits}f}" if digits == 0 or size >= 10.0 ** -(digits - 1) else f"{value:.{digits}g}"
    return text.replace("-", _MINUS)


def chance(value: Any) -> str:
    """A p-value with three decimals: `0.042`, and below the last of them `< 0.001`."""
    return MISSING if not is_number(value) else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def interval(bounds: Sequence[Any] | None, digits: int = 1, *, signed: bool = False) -> str:
    """Two shares as `41.0 to 47.2 %`."""
    if bounds is None or len(bounds) != 2 or not all(is_number(bound) for bound in bounds):
        return MISSING
    low, high = (percent(bound, digits, signed=signed) for bound in bounds)
    return f"{low.removesuffix('%').rstrip()} to {high}"


def moment(value: datetime | str | None) -> str:
    """A time as `2025-03-01 14:00` UTC; text that is no time stays as it is."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return str(value)
    return (value.astimezone(UTC) if value.tzinfo else value).strftime("%Y-%m-%d %H:%M")


def short_hash(value: Any) -> str:
    """The first twelve digits of a hash, enough to compare by eye."""
    return value[:12] if isinstance(value, str) and value else MISSING


def plain(value: Any) -> str:
    """Any JSON value on one line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)


def words(key: str) -> str:
    """A key as a label: `flip_rate` -> `Flip rate`."""
    text = key.replace("_", " ").replace(".", " · ").strip()
    return text[:1].upper() + text[1:]
