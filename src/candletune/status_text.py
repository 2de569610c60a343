"""A run's status in words, for the terminal and for its page."""

from pathlib import Path
from typing import TYPE_CHECKING

from candletune.artifacts import DriftReport, TrySpent
from candletune.console import from_here, in_lines
from candletune.report.text import NAMES, moment, number, percent, short_hash
from candletune.status import (
    ActiveProblem,
    ActiveStatus,
    DriftProblem,
    JournalProblem,
    JournalStatus,
    LedgerProblem,
    LedgerStatus,
    RunStatus,
)

if TYPE_CHECKING:
    from rich.console import Console


def print_status(status: RunStatus, console: "Console | None" = None) -> None:
    """Print a run's status, on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for column in ("stage", "finished (UTC)", "seconds", "result"):
        table.add_column(column, justify="right" if column == "seconds" else "left", overflow="fold")
    running = status.running
    for name, stage in status.stages.items():
        if running is not None and running.stage == name and running.alive:
            table.add_row(name, "[bold]running[/]", "", escape(running.text))
        elif stage is None:
            table.add_row(name, "[dim]not yet[/]", "", "")
        else:
            table.add_row(name, moment(stage.finished), number(stage.seconds, 1), escape(from_here(stage.headline)))
    run = Path(status.run)
    console.print(f"[bold]{escape(run.name if run == Path.cwd() else from_here(status.run))}[/]")
    console.print(table)
    for label, value in status_lines(status):
        text = in_lines(f"{label:<13} {from_here(value)}", console)
        console.print(f"[dim]{escape(text[:13])}[/]{escape(text[13:])}", soft_wrap=True)


def status_lines(status: RunStatus) -> list[tuple[str, str]]:
    """The facts below the table, one line each."""
    lines = []
    if (running := status.running) is not None and not running.alive:
        ended = f"{running.stage} was stopped about {moment(running.updated)} UTC ({running.text})"
        lines.append(("stopped", f"{ended}; run the same command again to go on"))
    lines += [
        (
            item.kind,
            f"{item.file}  {item.bytes / 1e6:.1f} MB  {short_hash(item.sha256)}",
        )
        for item in status.adapters
    ]
    if (check := status.verification) is not None:
        result = "passed" if check.passed else "FAILED"
        lines.append(("certificate", ", ".join([result, *check.findings, f"{moment(check.finished)} UTC"])))
    for label, verdict in (("verdict", status.verdict), ("shadow says", status.shadow_verdict)):
        if verdict is not None:
            forced = " (forced: part of the rows was seen in training)" if verdict.forced else ""
            lines.append((label, f"{verdict.verdict}: {verdict.reason}{forced}{_spent(verdict.spent)}"))
    lines.append(("tries", _tries(status.ledger)))
    lines.append(("acts now", _who(status.active)))
    if status.journal is not None:
        lines.append(("shadow", _shadow(status.journal)))
    if status.drift is not None:
        lines.append(("drift", _drifted(status.drift)))
    return lines


def _spent(spent: TrySpent | None) -> str:
    if spent is None:
        return ""
    bound = "" if spent.registered is None else ", registered before"
    return f" (try {spent.number} on these candles: {percent(spent.level, 2)} of {percent(spent.budget, 0)}{bound})"


def _tries(ledger: LedgerStatus | LedgerProblem) -> str:
    if isinstance(ledger, LedgerProblem):
        return f"unreadable: {ledger.problem}"
    waiting = f", {ledger.registered} of them registered and not looked at" if ledger.registered else ""
    return f"{number(ledger.tries)} on record in {ledger.path}{waiting}"


def _who(active: ActiveStatus | ActiveProblem) -> str:
    if isinstance(active, ActiveProblem):
        return f"unknown: {active.problem}"
    name = f"{active.name} {short_hash(active.sha256)}" if active.sha256 else "the bare base (no adapter)"
    return f"{name}, from {active.source}"


def _shadow(journal: JournalStatus | JournalProblem) -> str:
    if isinstance(journal, JournalProblem):
        return f"unreadable: {journal.problem}"
    known = {name.lower(): journal.accuracy[side] for side, name in NAMES.items() if side in journal.accuracy}
    accuracy = ", ".join(f"{name} {percent(rate)}" for name, rate in known.items())
    left = f", about {number(journal.days_left, 1)} more days" if journal.days_left > 0 else ""
    return (
        f"{number(journal.rows)} cycles to {moment(journal.last)} UTC; right so far: {accuracy}; agreement "
        f"{percent(journal.agreement)}; evidence {number(journal.effective, 0)} of {journal.needed}{left}"
    )


def _drifted(drift: DriftReport | DriftProblem) -> str:
    if isinstance(drift, DriftProblem):
        return f"unreadable: {drift.problem}"
    note = f"; {drift.note}" if drift.note else ""
    alarms = "; ".join(f"ALARM since {watch.alarm}: {watch.name}, {watch.seen}" for watch in drift.alarms)
    if alarms:
        return f"{alarms}; `candletune drift` shows more{note}"
    highest = max((watch.height for watch in drift.watched), default=0.0)
    return f"none in {number(drift.days)} days, evidence {percent(highest, 0)} of an alarm's{note}"
