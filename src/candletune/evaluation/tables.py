"""The evaluation as tables on screen."""

from io import StringIO

from candletune.artifacts.metrics import BaselineMetrics, Interval, Metrics, SideMetrics
from candletune.artifacts.verdict import Verdict
from candletune.console import Reporter

ROLES = (("shadow", "candidate"), ("active", "incumbent"))
WIDTH = 112


def show_evaluation(verdict: Verdict, metrics: Metrics, reporter: Reporter) -> None:
    """Both models beside the baselines, then every criterion, then the notes."""
    from rich.console import Console
    from rich.table import Table

    methods = Table()
    methods.add_column("", no_wrap=True)
    for name in ("BUY/SELL right", "interval", "calls", "all right", "balanced", "flips", "signed return"):
        methods.add_column(name, justify="right")
    for side, role in ROLES:
        entry = metrics.side(side)
        methods.add_row(*_method(role, entry, metrics.comparison.sides[side], _percent(entry.flip_rate)))
    for name, baseline in metrics.baselines.items():
        methods.add_row(*_method(name, baseline, baseline.interval, ""))
    rule = Table()
    rule.add_column("criterion", no_wrap=True)
    for name in ("value", "interval", "limit", ""):
        rule.add_column(name, justify="right")
    for item in verdict.criteria:
        text = _count if item.unit == "count" else _percent
        bounds = "" if item.interval is None else " to ".join(map(text, item.interval))
        result = {True: "holds", False: "FAILS", None: "open"}[item.passed]
        if not item.decides:
            result = f"({result.lower()}, only shown)"
        rule.add_row(item.name, text(item.value), bounds, text(item.limit), result)
    for table in (methods, rule):
        out = StringIO()
        Console(file=out, width=WIDTH, force_terminal=False).print(table)
        reporter.say(out.getvalue().rstrip())
    for note in verdict.notes:
        reporter.say(note)


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
