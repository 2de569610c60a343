"""A commented TOML file with every key at its default, made from the models."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from candletune.config import Config
from candletune.config_source import SECRETS


def commented_toml(values: Mapping[str, Any]) -> str:
    """The whole configuration as TOML; keys at their default are commented out, those in `values` are set.

    Secrets are never written.
    """
    values = {key: value for key, value in values.items() if key != SECRETS}
    lines = ["# candletune configuration. Every key shows its default; uncomment what you change.", ""]
    for name, field in Config.model_fields.items():
        if not _is_table(field):
            lines += [*_key(name, field, values.get(name)), ""]
    for name, field in Config.model_fields.items():
        if _is_table(field):
            table = field.annotation
            assert table is not None  # noqa: S101
            lines += [f"# {_first_line(table.__doc__)}", f"[{name}]"]
            for key, inner in table.model_fields.items():
                lines += _key(key, inner, values.get(f"{name}.{key}"))
            lines.append("")
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    """A value in TOML's notation; None has none and gives an empty string."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Path | str):
        return _quoted(str(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)


def _quoted(text: str) -> str:
    """Single quotes for what holds a backslash, such as a Windows path: nothing is an escape there."""
    literal = "\\" in text and "'" not in text and text.isprintable()
    return f"'{text}'" if literal else json.dumps(text, ensure_ascii=False)


def _key(name: str, field: FieldInfo, value: Any) -> list[str]:
    comment = f"# {field.description}" if field.description else ""
    if value is not None:
        return [comment, f"{name} = {toml_value(value)}"]
    return (
        [comment, f"# {name} = {toml_value(field.default)}"] if field.default is not None else [comment, f"# {name} ="]
    )


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
