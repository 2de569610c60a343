"""What a sweep came to, as a table of 80 columns."""

from io import StringIO

from candletune.artifacts.sweep import Sweep, Trial
from candletune.experiments.compare_table import WIDTH, time_text
from candletune.experiments.space import shown
from candletune.report.text import MISSING, number


def sweep_text(sweep: Sweep) -> str:
    """The trials, the best first, and what follows from them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(width=WIDTH, pad_edge=False)
    for column, side in (
        ("settings", "left"),
        ("log loss", "right"),
        ("beyond base rates", "right"),
        ("time", "right"),
    ):
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    for trial in sorted(sweep.trials, key=_place):
        mark = "* " if trial.name == sweep.winner else ""
        table.add_row(f"{mark}{escape(shown(trial.settings))}", _loss(trial), _beyond(trial), time_text(trial.seconds))
    out = StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, highlight=False)
    console.print(table)
    console.print(
        f"{sweep.count('finished')} finished, {sweep.count('pruned')} pruned, {sweep.count('failed')} failed, of "
        f"{sweep.planned}. The winner (*) was chosen on the eval rows alone; its lead over the next may be luck, and "
        "nothing is known yet of the replay range.",
        markup=False,
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _place(trial: Trial) -> tuple[int, float]:
    return ({"finished": 0, "pruned": 1, "failed": 2}[trial.state], trial.score or 0.0)


def _loss(trial: Trial) -> str:
    if trial.state == "finished":
        return number(trial.log_loss, 4)
    return f"pruned at {trial.step}" if trial.state == "pruned" else "failed"


def _beyond(trial: Trial) -> str:
    return MISSING if trial.score is None else f"{trial.score:+.4f}"
