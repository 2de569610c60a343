"""Both models beside the baselines, as rows of one table."""

from collections.abc import Sequence
from dataclasses import dataclass

from candletune.artifacts.metrics import BaselineMetrics, Metrics, SideMetrics
from candletune.report.text import NAMES, percent

Ends = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Method:
    """A model or a baseline with what they share; `key` is the model's side, empty for a baseline."""

    name: str
    key: str
    signals: int
    accuracy_signals: float | None
    accuracy_all: float | None
    balanced_accuracy: float | None
    mean_signed_return: float | None
    bounds: Ends
    lead: Ends


def methods_of(metrics: Metrics) -> list[Method]:
    """Both models, the candidate first, and every baseline."""
    models = [
        _method(NAMES[side], side, metrics.side(side), metrics.comparison.sides[side].bounds, None) for side in NAMES
    ]
    return models + [
        _method(name, "", entry, entry.interval.bounds, entry.lead.bounds) for name, entry in metrics.baselines.items()
    ]


def _method(name: str, key: str, entry: SideMetrics | BaselineMetrics, bounds: Ends, lead: Ends) -> Method:
    return Method(
        name,
        key,
        entry.signals,
        entry.accuracy_signals,
        entry.accuracy_all,
        entry.balanced_accuracy,
        entry.mean_signed_return,
        bounds,
        lead,
    )


def method_sentence(rows: Sequence[Method]) -> str:
    """Whether a simpler method does as well as the candidate, the first of the rows."""
    mine = rows[0].accuracy_signals
    others = [(row.accuracy_signals, row.name) for row in rows if not row.key and row.accuracy_signals is not None]
    if not others:
        return "No baseline was computed."
    if mine is None:
        return "The candidate made no BUY or SELL call, so it can't be compared on them."
    best, name = max(others)
    if best >= mine:
        return (
            f"A simpler method does at least as well: {name} was right on {percent(best)} "
            f"of its BUY and SELL calls, the candidate on {percent(mine)}. The language model adds words, not accuracy."
        )
    return (
        f"The candidate's {percent(mine)} is above every baseline; the best of them, {name}, reaches {percent(best)}."
    )
