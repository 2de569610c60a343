"""MkDocs hook: the configuration and command references, written from the code at every build.

A page holds a marker; the build puts the tables in its place, so that they can't go stale.
"""

from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined


def on_config(config: Any) -> Any:
    """Leave out pages that are not written yet, so that a strict build says only what is wrong."""
    config.nav = _present(config.nav, Path(config.docs_dir))
    return config


def _present(nav: list[Any], folder: Path) -> list[Any]:
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            found += [{title: _present(inner, folder)} for title, inner in entry.items()]
        elif (folder / entry).is_file():
            found.append(entry)
    return found


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the markers."""
    for marker, write in (("<!-- configuration -->", configuration), ("<!-- commands -->", commands)):
        if marker in markdown:
            markdown = markdown.replace(marker, write())
    return markdown


def configuration() -> str:
    """Every table and key of the configuration models."""
    from candletune.config import Config

    parts = []
    for name, field in Config.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            doc = (table.__doc__ or "").strip().splitlines()[0]
            rows = [_row(f"{name}.{key}", inner) for key, inner in table.model_fields.items()]
            parts.append("\n".join([f"## `[{name}]`", "", doc, "", *_HEAD, *rows]))
        else:
            parts.insert(0, "\n".join(["## Top level", "", *_HEAD, _row(name, field)]))
    return "\n\n".join(parts)


_HEAD = ["| key | default | meaning |", "| --- | --- | --- |"]


def _row(key: str, field: Any) -> str:
    default = "required" if field.default is PydanticUndefined else _toml(field.default)
    choices = [f"`{choice}`" for choice in getattr(field.annotation, "__args__", ()) if isinstance(choice, str)]
    meaning = (field.description or "") + (f" ({', '.join(choices)})" if choices else "")
    return f"| `{key}` | {default} | {meaning.replace('|', chr(92) + '|')} |"


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    if hasattr(value, "isoformat"):
        return f"`{value.date().isoformat()}`"
    return f"`{value}`" if isinstance(value, int | float) else f'`"{value}"`'


def commands() -> str:
    """Every command's help, as `--help` prints it."""
    from candletune.cli import COMMANDS, program

    parts = []
    context = click.Context(program, info_name="candletune", max_content_width=100, terminal_width=100)
    for name in COMMANDS:
        try:
            command = program.get_command(context, name)
        except ImportError:
            continue
        if command is not None:
            parts.append(f"## {name}\n\n{_help(command, name, context)}")
    return "\n\n".join(parts)


def _help(command: click.Command, name: str, parent: click.Context) -> str:
    """A command's help, and below it that of its own commands."""
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    inner = command.commands if isinstance(command, click.Group) else {}
    shown = [f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(shown + [_help(command, name, context) for name, command in inner.items()])
