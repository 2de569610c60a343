"""`completion`: the lines that make a shell complete commands, options and configuration keys."""

import os
from pathlib import Path
from typing import Literal

import click

Shell = Literal["bash", "zsh", "fish"]


@click.command(epilog='Example: eval "$(candletune completion bash)"   (in ~/.bashrc, to have it in every shell)')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def completion(shell: Shell | None) -> None:
    """Print what makes SHELL complete commands, options and --set keys; SHELL is by default the one you use.

    bash and zsh: eval "$(candletune completion)". fish: candletune completion fish | source.
    """
    from click.shell_completion import get_completion_class

    from candletune.errors import UsageError

    name = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(name)
    if found is None:
        raise UsageError(f"{name or 'SHELL is not set'}: name one of bash, zsh and fish")
    program = click.get_current_context().find_root().command
    click.echo(found(program, {}, "candletune", "_CANDLETUNE_COMPLETE").source())
