"""The prompt's context: from a market row or from a trader's JSON, and how each field is displayed.

The keys are the Signal contract's. A market row and the JSON a live trader sends end in the same display fields, so a
model is served exactly what it was trained on. What the keys are, and how each is validated and displayed, is said by
the fields (`candletune.fields`).
"""

from collections.abc import Mapping
from typing import Any

from candletune.errors import InputError
from candletune.fields.registry import FIELDS, KEYS


def context_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A market row (`fields.columns.market_rows`) as a context."""
    return {key.name: row[key.column] for key in KEYS if key.column in row}


def clean_context(given: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a trader's JSON context; optional fields missing, null or "N/A" become None, text is cleaned.

    Raises:
        InputError: names the key, what was expected and what was given.
    """
    for key in KEYS:
        if key.required and given.get(key.name) in (None, ""):
            raise InputError(f"context.{key.name}: missing; send it with every request")
    return {key.name: key.clean(key.name, given.get(key.name)) for key in KEYS}


def display_fields(context: Mapping[str, Any]) -> dict[str, Any]:
    """The template's fields, formatted; a missing one reads N/A (sentiment: its neutral placeholder)."""
    return {name: value for field in FIELDS for name, value in field.display(context).items()}
