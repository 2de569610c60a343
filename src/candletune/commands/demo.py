"""`demo`: the whole pipeline on a simulated market and a tiny base model."""

from pathlib import Path

import click

from candletune.commands import complete_key
from candletune.commands.result import run_result, say_result, with_json


@click.command(epilog="Example: candletune demo --signal 0   (pure noise: nothing may be promoted)")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Run folder.",
)
@click.option(
    "--signal",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="How much of the 12-hour return the indicators predict.",
)
@click.option("--seed", type=click.IntRange(min=0), default=17, show_default=True, help="Seed of every random choice.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    shell_complete=complete_key,
    help="Override one configuration value of the candidate; repeatable.",
)
@with_json
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def demo(folder: Path, signal: float, seed: int, assignments: tuple[str, ...]) -> None:
    """Simulate a market, train an incumbent on shuffled labels and a candidate on true ones, and decide between them.

    Needs no GPU and no network. The second run resumes in seconds.
    """
    from candletune.console import RichReporter
    from candletune.demo import run_demo
    from candletune.runs import RunFolder

    outcomes = run_demo(folder, signal=signal, seed=seed, assignments=assignments, reporter=RichReporter())
    say_result(**run_result(outcomes, RunFolder(folder).report))
