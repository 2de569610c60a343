"""All prompt fields, found among the modules of this package, and what is derived from them."""

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Final

from candletune import fields as package
from candletune.fields.field import CandleColumns, Context, ContextColumns, Feature, Field, RowColumns
from candletune.fields.keys import Key

_SUPPORT: Final = ("columns", "field", "keys", "registry", "wording")
"""Modules of the package that are no fields."""


def _find() -> tuple[Field, ...]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in _SUPPORT]
    fields: list[Field] = [import_module(f"{package.__name__}.{name}").FIELD for name in names]
    return tuple(sorted(fields, key=lambda field: (field.order, field.name)))


def _once(what: str, names: Iterable[str]) -> None:
    listed = list(names)
    if doubled := sorted({name for name in listed if listed.count(name) > 1}):
        raise ValueError(f"candletune.fields: two fields define the {what} {', '.join(doubled)}; rename one of them")


FIELDS: Final = _find()
"""In their order."""
KEYS: Final[tuple[Key, ...]] = tuple(key for field in FIELDS for key in field.keys)
"""What a context may carry."""
KEY_NAMES: Final = tuple(key.name for key in KEYS)
EXAMPLE: Final[Context] = {key.name: key.example for key in KEYS}
"""A context that lacks nothing."""
FEATURES: Final[tuple[Feature, ...]] = tuple(feature for field in FIELDS for feature in field.features)
"""What the baselines read."""


def candle_columns() -> Iterator[CandleColumns]:
    """Those of every field, in order."""
    return (columns for field in FIELDS for columns in field.columns if isinstance(columns, CandleColumns))


def row_columns() -> Iterator[RowColumns]:
    """Those of every field, in order."""
    return (columns for field in FIELDS for columns in field.columns if isinstance(columns, RowColumns))


def context_columns() -> Iterator[ContextColumns]:
    """Those of every field, in order."""
    return (columns for field in FIELDS for columns in field.columns if isinstance(columns, ContextColumns))


INDICATORS: Final = tuple(name for columns in candle_columns() for name in columns.names)
"""Columns computed from candles."""
COLUMNS: Final = (
    "asset",
    "decision_time",
    "close",
    *INDICATORS,
    *(name for columns in row_columns() for name in columns.names),
    *(name for columns in context_columns() for name in columns.names),
)
"""A whole market row's columns."""
TEMPLATE_NAMES: Final = {name: field for field in FIELDS for name in field.display({})}
"""Name in a template -> its field."""
RAW_NAMES: Final = {key.name: field for field in FIELDS for key in field.keys}
"""Name of a raw value in a template -> its field."""

_once("name", (field.name for field in FIELDS))
_once("context key", KEY_NAMES)
_once("column", COLUMNS)
_once("template name", (name for field in FIELDS for name in field.display({})))
