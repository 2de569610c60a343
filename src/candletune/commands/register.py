"""The handler behind `evaluate --register`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from candletune.commands import CANDLES, RUN, open_session
from candletune.commands.result import say_result


def register_command(config_path: Path, assignments: tuple[str, ...], given: Mapping[str, Any], *, other: bool) -> None:
    """Put the next replay on record; it judges nothing.

    Args:
        config_path: `--config`.
        assignments: `--set`.
        given: the command's own options.
        other: an option was given that belongs to judging.

    Raises:
        UsageError: such an option was given; see `stages.register.register`.
    """
    from candletune.errors import UsageError
    from candletune.stages.pipeline import prepare
    from candletune.stages.register import register

    if other:
        raise UsageError("--register: judges nothing; leave out --force and --require-promote")
    session = open_session(config_path, assignments, needs=(RUN, CANDLES), overrides=given)
    with session.run.lock():
        spent = register(prepare(session.config, session.run, session.reporter), session.run, session.reporter)
    say_result(registered=spent.model_dump(mode="json"))
