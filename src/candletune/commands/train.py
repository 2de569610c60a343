"""`train`: in this process, in several that it starts, or as one of those that `torchrun` started."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import RUN, open_session, with_config, without_preflight
from candletune.commands.result import with_json
from candletune.commands.stages import run_one, with_force

if TYPE_CHECKING:
    from candletune.config import Config
    from candletune.console import Reporter
    from candletune.runs import RunFolder


@click.command(epilog="Example: candletune train --set train.lora_rank=16")
@with_config
@with_json
@with_force
@without_preflight
def train(config_path: Path, assignments: tuple[str, ...], force: bool, no_preflight: bool) -> None:
    """Train the adapter with 4-bit QLoRA; resumes from the last checkpoint.

    What would end training, export or verification is looked for first and refused at once.
    """
    from candletune.stages.train_processes import followed, trained

    if followed(lambda: open_session(config_path, assignments, needs=(RUN,)).config):  # before a GPU is looked for
        return
    try:
        run_one("train", config_path, assignments, force, before=None if no_preflight else _preflight)
    finally:
        trained()


def _preflight(config: "Config", run: "RunFolder", reporter: "Reporter") -> None:
    """Candles are not asked for: a dataset may be trained on where they are not."""
    from candletune.preflight import preflight
    from candletune.stages import stage
    from candletune.stages.runner import check_inputs

    check_inputs(stage("train"), config, run)
    preflight(config, run, reporter, ("train", "export", "verify"))
