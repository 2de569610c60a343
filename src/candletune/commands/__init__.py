"""The handlers behind the command table. Each imports what it needs inside, so that help stays fast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def with_config(function: F) -> F:
    """Add `--config`, `--set` and `--debug` to a command; it receives `config_path` and `assignments`."""
    function = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")(function)
    function = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="TABLE.KEY=VALUE",
        help="Override one configuration value; repeatable.",
    )(function)
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("candletune.toml"),
        show_default=True,
        help="Configuration file.",
    )(function)
