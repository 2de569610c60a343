"""The keys of a context: how a trader's value is validated, and what a template sees as `raw`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from candletune.errors import InputError
from candletune.market.headlines.text import clean_headline
from candletune.market.sentiment import NO_HEADLINES

TEXT_LIMIT = 160
HEADLINES_LIMIT = 3
SHOWN = 80
"""Characters of a trader's value in a message."""
_SEPARATOR = " | "


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the Signal contract's context.

    Attributes:
        name: of the key.
        clean: from the name and a trader's value to the context's value; None when it is absent. Raises InputError.
        raw: from the context's value to what a template sees as `raw.<name>`, the same for a market row and a request.
        column: of the market row.
        placeholder: stands for a missing value in `raw`, as it does in the display.
        required: sent with every request.
        example: a context's value of it, to try a template on.
    """

    name: str
    clean: Callable[[str, Any], Any]
    raw: Callable[[Any], Any]
    column: str
    example: Any
    placeholder: Any = None
    required: bool = False

    def raw_value(self, value: Any) -> Any:
        """What a template sees of a context's value."""
        return self.placeholder if absent(value) else self.raw(value)

    def informs(self, value: Any) -> bool:
        """Whether a context's value says more than the placeholder does."""
        return bool(self.raw_value(value) != self.placeholder)


def shown(value: Any) -> str:
    """A trader's value for a message: as Python writes it, shortened, and only what every encoder takes."""
    try:
        text = ascii(value) if isinstance(value, str | int | float | None) else repr(value)
    except (RecursionError, ValueError):  # nested as deeply as JSON lets it be; a number of thousands of digits
        return f"a {type(value).__name__} too large to show"
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def absent(value: Any) -> bool:
    """None, an empty text, or one of the ways to write "not available"."""
    return value is None or (isinstance(value, str) and value.strip().upper() in ("", "N/A", "NA", "NONE"))


def number_key(
    name: str, low: float = -math.inf, high: float = math.inf, *, whole: bool = False, placeholder: float | None = None
) -> Key:
    """A number from `low` to `high`; `whole` makes its raw value an integer."""

    def clean(key: str, value: Any) -> float | None:
        number = _number(key, value)
        if number is not None and not low <= number <= high:
            raise InputError(f"context.{key}: expected a number from {low:g} to {high:g}, got {shown(value)}")
        return number

    example = (low + high) / 2 if math.isfinite(high - low) else 1.0
    return Key(name, clean, round if whole else float, name, example, placeholder)


def price_key(name: str, column: str) -> Key:
    """A positive number that every request carries."""

    def clean(key: str, value: Any) -> float:
        number = _number(key, value)
        if number is None or number <= 0:
            raise InputError(f"context.{key}: expected a positive number, got {shown(value)}")
        return number

    return Key(name, clean, float, column, 64250.5, required=True)


def flag_key(name: str) -> Key:
    """True or false."""

    def clean(key: str, value: Any) -> bool | None:
        if absent(value):
            return None
        if not isinstance(value, bool):
            raise InputError(f"context.{key}: expected true or false, got {shown(value)}")
        return value

    return Key(name, clean, bool, name, example=True)


def text_key(
    name: str,
    *,
    example: str,
    limit: int = TEXT_LIMIT,
    column: str | None = None,
    placeholder: str | None = None,
    required: bool = False,
) -> Key:
    """Text from outside, cleaned, at most `limit` characters between two separators."""

    def clean(key: str, value: Any) -> str | None:
        if absent(value):
            return None
        if not isinstance(value, str):
            raise InputError(f"context.{key}: expected text, got {shown(value)}")
        # The separator of timeframe summaries stays; everything else is treated as text from outside.
        return _SEPARATOR.join(clean_headline(part, limit=limit) for part in value.split("|"))

    return Key(name, clean, str, column or name, example, placeholder, required)


def headlines_key(name: str) -> Key:
    """A list of titles, or one text with separators; the raw value is a tuple of titles."""

    def clean(key: str, value: Any) -> str:
        if absent(value):
            return NO_HEADLINES
        parts = value.split("|") if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InputError(f"context.{key}: expected text or a list of texts, got {shown(value)}")
        cleaned = [text for part in parts[:HEADLINES_LIMIT] if (text := clean_headline(part))]
        return _SEPARATOR.join(cleaned) or NO_HEADLINES

    return Key(name, clean, lambda value: tuple(value.split(_SEPARATOR)), name, "One title | Another", ())


def _number(key: str, value: Any) -> float | None:
    given = value
    if absent(value):
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            raise InputError(f"context.{key}: expected a number, got {shown(given)}") from None
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond every float
            number = math.inf
    if not math.isfinite(number):
        raise InputError(f"context.{key}: expected a number, got {shown(given)}")
    return number
