"""A comparison on a terminal of 80 columns."""

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING

from candletune.experiments.comparison import Compared
from candletune.experiments.entrants import Entrant
from candletune.report.text import interval, number, percent, points

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 80


def comparison_text(compared: Compared) -> str:
    """Every table of the comparison, and what it says."""
    from rich.console import Console

    out = StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, highlight=False)
    for table in _tables(compared):
        console.print(table)
    console.print(compared.sentence, markup=False)
    console.print("A comparison is no verdict: each run has its own, which keeps count in the ledger of tries.")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _tables(compared: Compared) -> Iterator["Table"]:
    yield _results(compared)
    if compared.settings:
        yield _settings(compared)
    if compared.paired:
        yield _against(compared)


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", width=WIDTH, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def _results(compared: Compared) -> "Table":
    from rich.markup import escape

    table = _table("Runs", "run", "eval log loss", "BUY/SELL right", "balanced", "cal. error", "time", "verdict")
    for entrant in compared.entrants:
        side = None if entrant.metrics is None else entrant.metrics.shadow
        table.add_row(
            escape(entrant.name),
            number(entrant.eval_log_loss, 4),
            percent(side and side.accuracy_signals),
            percent(side and side.balanced_accuracy),
            percent(side and side.calibration_error),
            time_text(sum(entrant.seconds.values())),
            verdict_text(entrant),
        )
    return table


def _settings(compared: Compared) -> "Table":
    from rich.markup import escape

    table = _table("Settings that differ", "run", "settings")
    table.columns[1].justify = "left"
    for place, entrant in enumerate(compared.entrants):
        values = "; ".join(f"{key} = {found[place]}" for key, found in compared.settings.items())
        table.add_row(escape(entrant.name), escape(values))
    return table


def _against(compared: Compared) -> "Table":
    from rich.markup import escape

    title = f"Against {escape(compared.reference.name)}, same decision times"
    table = _table(title, "run", "gain", "95 % interval", "log score", "p, Holm", "rows", "")
    for name, pair in compared.paired.items():
        if pair.problem:
            table.add_row(escape(name), "", "", "", "", number(pair.rows), pair.problem)
            continue
        table.add_row(
            escape(name),
            points(pair.gain.value),
            interval(pair.gain.bounds, signed=True),
            number(pair.log_score.value, 3),
            number(pair.adjusted, 3),
            number(pair.rows),
            pair.finding,
        )
    return table


def verdict_text(entrant: Entrant) -> str:
    """The verdict, or how far the run is."""
    if entrant.verdict is not None:
        return entrant.verdict.verdict
    if "replay" in entrant.seconds:
        return "not evaluated"
    if entrant.certificate is not None:
        return "not replayed" if entrant.certificate.passed else "not certified"
    return "not certified" if entrant.training is not None else "not trained"


def time_text(seconds: float) -> str:
    """Whole minutes from two minutes on."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
