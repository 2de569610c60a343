"""What the handlers behind the command table share: options, a ready session, and suggestions for misspelled names.

Each handler imports what it needs inside, so that help stays fast.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from candletune.config import Config
    from candletune.console import Reporter
    from candletune.runs import RunFolder

F = TypeVar("F", bound=Callable[..., Any])
CONFIG = Path("candletune.toml")
CANDLES = ("data.folder", "simulate.enabled")
RUN = ("run.folder",)
"""Keys of which a command needs one when there is no configuration file."""


def complete_key(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    """Configuration keys that begin with, or hold, what was typed; for shells."""
    from candletune.config import Config
    from candletune.config_source import leaves

    keys = [f"{key}=" for key, _ in leaves(Config)]
    return [key for key in keys if key.startswith(typed)] or [key for key in keys if typed in key]


def with_config(function: F) -> F:
    """Add `--config`, `--set` and `--debug` to a command; it receives `config_path` and `assignments`."""
    function = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")(function)
    function = click.option(
        "--log-json", is_flag=True, expose_value=False, help="Write messages on standard error as JSON, one a line."
    )(function)
    function = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="TABLE.KEY=VALUE",
        shell_complete=complete_key,
        help="Override one configuration value; repeatable.",
    )(function)
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=CONFIG,
        show_default=True,
        help="Configuration file.",
    )(function)


def logs_json() -> bool:
    """Whether messages are to be JSON: `--log-json`, or CANDLETUNE_LOG_JSON for a service."""
    return bool(os.environ.get(LOG_JSON))


def say_line(level: str, sentence: str) -> None:
    """A message on standard error, for people or as JSON."""
    from candletune.console import log_line

    if logs_json():
        log_line(level, sentence)
    else:
        click.echo(f"{level}: {sentence}", err=True)


def tell_service(state: str) -> bool:
    """See `process.tell_service`."""
    from candletune.process import tell_service as tell

    return tell(state)


def heart() -> Callable[[], None]:
    """Tells systemd's watchdog that the program lives, when the last time was some seconds ago."""
    last = [0.0]

    def beat() -> None:
        if time.monotonic() - last[0] > BEAT_SECONDS:
            last[0] = time.monotonic()
            tell_service("WATCHDOG=1")

    return beat


BEAT_SECONDS = 5.0
LOG_JSON = "CANDLETUNE_LOG_JSON"
without_preflight = click.option(
    "--no-preflight", is_flag=True, help="Begin at once, without looking for what would fail later."
)


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with.

    Attributes:
        config: the whole configuration.
        run: its run folder, not yet locked.
        reporter: where to report to.
    """

    config: "Config"
    run: "RunFolder"
    reporter: "Reporter"

    def with_candles(self) -> "Config":
        """The configuration with `data.folder` at the simulated candles, when they are asked for; takes the lock."""
        from candletune.stages.pipeline import prepare

        if not self.config.simulate.enabled:
            return self.config
        with self.run.lock():
            return prepare(self.config, self.run, self.reporter)


def open_session(
    config_path: Path,
    assignments: Sequence[str],
    *,
    needs: Sequence[Sequence[str]] = (CANDLES,),
    overrides: Mapping[str, Any] | None = None,
) -> Session:
    """Read the configuration and make ready what every command needs.

    Args:
        config_path: the file; the default one may be missing when `needs` are met.
        assignments: `--set`.
        needs: keys the command cannot do without; of each group one must be set.
        overrides: the command's own options as `table.key` and value.

    Raises:
        UsageError: no file and a need is not met, or the configuration is wrong.
    """
    from candletune.config import load_config
    from candletune.console import JsonReporter, RichReporter
    from candletune.runs import RunFolder

    path = None if _may_be_missing(config_path) else config_path
    if path is None:
        _check_needs(config_path, assignments, needs)
    config = load_config(path, assignments, overrides)
    return Session(config, RunFolder(config.run.folder), JsonReporter() if logs_json() else RichReporter())


def _may_be_missing(path: Path) -> bool:
    """Whether the file is the default one, not named by the user, and is not there."""
    context = click.get_current_context(silent=True)
    source = context.get_parameter_source("config_path") if context else None
    named = source not in (None, click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)
    return path == CONFIG and not named and not path.exists()


def _check_needs(path: Path, assignments: Sequence[str], needs: Sequence[Sequence[str]]) -> None:
    from candletune.config_source import parse_assignment
    from candletune.errors import UsageError

    given = {".".join(parse_assignment(text)[0]) for text in assignments}
    missing = [group for group in needs if not given.intersection(group)]
    if missing:
        keys = " and ".join(f"--set {group[0]}=..." for group in missing)
        raise UsageError(
            f"{path}: no such file; `candletune init` writes one, or name it with --config (or do without: {keys})"
        )


class SuggestingGroup(click.Group):
    """A click group that suggests the nearest command for an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            names = self.list_commands(ctx)
            close = get_close_matches(args[0], names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"commands: {', '.join(names)}"
            raise click.UsageError(f"{args[0]}: no such command; {hint}", ctx) from None
