"""What a context key held in the train examples, and whether a later value lies outside that."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from candletune.artifacts import FieldRange
from candletune.fields.keys import Key
from candletune.fields.registry import KEYS

_OUTSIDE: Final = 0.001
"""Share of the numbers left outside at each end, so that one freak example doesn't widen a range for good."""
_NAMES: Final = ("ticker", "timeframe")
"""Keys that say of what the context is; they have no range."""


def ranges_of(contexts: Iterable[Mapping[str, Any]]) -> dict[str, FieldRange]:
    """By context key: its numbers' range, and how often it said nothing.

    Args:
        contexts: of one ticker's train examples.
    """
    rows = list(contexts)
    found = {}
    for key in _keys(rows):
        values = [row.get(key.name) for row in rows]
        numbers = [float(value) for value in values if is_number(value) and value is not None]
        low, high = np.quantile(numbers, [_OUTSIDE, 1 - _OUTSIDE]) if numbers else (None, None)
        missing = sum(not key.informs(value) for value in values) / len(rows)
        found[key.name] = FieldRange(
            rows=len(rows),
            missing=round(missing, 4),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
        )
    return found


def _keys(rows: list[Mapping[str, Any]]) -> list[Key]:
    present = {name for row in rows for name in row}
    return [key for key in KEYS if key.name in present and key.name not in _NAMES]


def is_number(value: Any) -> bool:
    """Whether it has a place in a range."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def outside(trained: FieldRange, value: Any) -> bool:
    """Whether a context's value lies beyond what training saw; what is no number does not."""
    if trained.low is None or trained.high is None or not is_number(value):
        return False
    return not trained.low <= value <= trained.high


def silent(name: str, value: Any) -> bool:
    """Whether a context's value says nothing, or no more than its placeholder."""
    return not next(key for key in KEYS if key.name == name).informs(value)
