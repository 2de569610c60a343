"""The evaluation as tables on screen."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

from candletune.console import Reporter

ROLES = (("shadow", "candidate"), ("active", "incumbent"))
WIDTH = 112


def show(verdict: Mapping[str, Any], found: Mapping[str, Any], reporter: Reporter) -> None:
    """Both models beside the baselines, then every criterion."""
    from rich.console import Console
    from rich.table import Table

    methods = Table()
    methods.add_column("", no_wrap=True)
    for name in ("BUY/SELL right", "interval", "calls", "all right", "balanced", "flips", "signed return"):
        methods.add_column(name, justify="right")
    sides = found["comparison"]["sides"]
    for side, role in ROLES:
        methods.add_row(*_method(role, found[side], sides[side]))
    for name, entry in found.get("baselines", {}).items():
        methods.add_row(*_method(name, entry, entry["interval"]))
    rule = Table()
    rule.add_column("criterion", no_wrap=True)
    for name in ("value", "interval", "limit", ""):
        rule.add_column(name, justify="right")
    for item in verdict["criteria"]:
        show_value = _count if item["unit"] == "count" else _percent
        bounds = "" if item["interval"] is None else " to ".join(map(show_value, item["interval"]))
        mark = {True: "holds", False: "FAILS", None: "open"}[item["passed"]]
        rule.add_row(item["name"], show_value(item["value"]), bounds, show_value(item["limit"]), mark)
    for table in (methods, rule):
        text = StringIO()
        Console(file=text, width=WIDTH, force_terminal=False).print(table)
        reporter.say(text.getvalue().rstrip())
    for note in verdict["notes"]:
        reporter.say(note)


def _method(name: str, entry: Mapping[str, Any], interval: Mapping[str, Any]) -> list[str]:
    bounds = "" if interval["low"] is None else f"{_percent(interval['low'])} to {_percent(interval['high'])}"
    shown = [_percent(entry.get(key)) for key in ("accuracy_all", "balanced_accuracy", "flip_rate")]
    signed = entry["mean_signed_return"]
    return [
        name,
        _percent(entry["accuracy_signals"]),
        bounds,
        f"{entry['signals']:,}",
        *shown,
        "" if signed is None else f"{signed:+.3%}",
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
