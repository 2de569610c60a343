"""The evaluation as tables on screen."""

import shutil
from collections.abc import Sequence
from io import StringIO
from typing import Final

from candletune.artifacts.metrics import BaselineMetrics, Interval, Metrics, SideMetrics
from candletune.artifacts.verdict import Verdict, VerdictCriterion
from candletune.console import Reporter

ROLES = (("shadow", "candidate"), ("active", "incumbent"))
WIDEST: Final = 120
COLUMNS: Final = ("BUY/SELL right", "interval", "calls", "all right", "balanced", "flips", "signed return")
GIVEN_UP: Final = ("signed return", "balanced", "all right", "flips", "interval")
"""Columns that a narrow terminal goes without, the first one first; a line says which."""


def show_evaluation(verdict: Verdict, metrics: Metrics, reporter: Reporter, width: int | None = None) -> None:
    """Both models beside the baselines, then every criterion, then the notes.

    Args:
        verdict: its criteria and notes.
        metrics: the numbers of the first table.
        reporter: takes the lines.
        width: of the terminal, in characters; none: asked of the system.
    """
    wide = min(width or shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    rows = [
        _method(role, metrics.side(side), metrics.comparison.sides[side], _percent(metrics.side(side).flip_rate))
        for side, role in ROLES
    ]
    rows += [_method(name, baseline, baseline.interval, "") for name, baseline in metrics.baselines.items()]
    left_out: list[str] = []
    text = _table("", COLUMNS, rows)
    while _width(text) > wide and len(left_out) < len(GIVEN_UP):
        left_out.append(GIVEN_UP[len(left_out)])
        kept = [index for index, name in enumerate(COLUMNS) if name not in left_out]
        text = _table("", [COLUMNS[i] for i in kept], [[row[0], *(row[1 + i] for i in kept)] for row in rows])
    reporter.say(text)
    if left_out:
        reporter.say(f"(a wider terminal shows {', '.join(reversed(left_out))} too; the report has everything)")
    criteria = [_criterion(item) for item in verdict.criteria]
    text = _table("criterion", ("value", "interval", "limit", ""), criteria)
    if _width(text) > wide:
        text = _table("criterion", ("value", "limit", ""), [[*row[:2], *row[3:]] for row in criteria])
    in_brackets = _width(text) > wide
    if in_brackets:
        short = [[*row[:2], row[3], row[4].replace(", only shown", "")] for row in criteria]
        text = _table("criterion", ("value", "limit", ""), short)
    reporter.say(text)
    if in_brackets:
        reporter.say("(what stands in brackets is only shown, and decides nothing)")
    for note in verdict.notes:
        reporter.say(note)


def _table(first: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out = StringIO()
    Console(file=out, width=4 * WIDEST, force_terminal=False).print(table)
    return out.getvalue().rstrip()


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def _criterion(item: VerdictCriterion) -> list[str]:
    text = {"count": _count, "nats": _nats, "points": _points}.get(item.unit, _percent)
    bounds = "" if item.interval is None else " to ".join(map(text, item.interval)).replace(" pp to", " to")
    result = {True: "holds", False: "FAILS", None: "open"}[item.passed]
    if not item.decides:
        result = f"({result.lower()}, only shown)"
    return [item.name, text(item.value), bounds, f"{item.bound} {text(item.limit)}", result]


def _points(value: float | None) -> str:
    return "" if value is None else f"{value * 100:+.1f} pp"


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _method(name: str, entry: SideMetrics | BaselineMetrics, interval: Interval, flips: str) -> list[str]:
    ends = interval.bounds
    signed = entry.mean_signed_return
    return [
        name,
        _percent(entry.accuracy_signals),
        "" if ends is None else f"{_percent(ends[0])} to {_percent(ends[1])}",
        f"{entry.signals:,}",
        _percent(entry.accuracy_all),
        _percent(entry.balanced_accuracy),
        flips,
        "" if signed is None else f"{signed:+.3%}",
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
