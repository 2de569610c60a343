"""What the verdict would need to be another one, from the distance of each criterion to its limit."""

from collections.abc import Callable, Mapping
from typing import Final

from candletune.artifacts import Metrics, Verdict, VerdictCriterion
from candletune.report.text import nats, number, percent, points

_SHOW: Final[Mapping[str, Callable[[float | None], str]]] = {
    "points": points,
    "share": percent,
    "count": lambda value: number(value, 0),
    "nats": nats,
}
_CHANGES: Final = {
    "largest class": "the candidate must use its other decisions more: look at the balance of the training examples",
    "rarest class": "the candidate must use every decision at least now and then",
    "invalid answers": "the answers must parse: look at `candletune verify`",
    "tickers with signals": "the candidate must act on more tickers",
    "drawdown": "it has happened; more of the same data can't undo it",
    "coverage": "more rows must be answered by both models",
    "reviewed": "reviewers must find its reasons no worse than the incumbent's",
}


def needs(verdict: Verdict, metrics: Metrics) -> list[str]:
    """A sentence for each criterion that keeps the candidate from promotion; for a promotion, what came closest."""
    deciding = [item for item in verdict.criteria if item.decides]
    failed = [item for item in deciding if item.passed is False]
    if failed:
        return [f"{item.name[:1].upper()}{item.name[1:]}: {_need(item, metrics)}." for item in failed]
    close = [(margin, item) for item in deciding if (margin := _margin(item)) is not None]
    if not close:
        return []
    _, nearest = min(close, key=lambda pair: pair[0])
    show = _SHOW[nearest.unit]
    low = "" if nearest.interval is None else f", with an interval from {show(nearest.interval[0])}"
    return [
        f"The closest call was {nearest.name}: {show(nearest.value)}{low}, against a limit of {show(nearest.limit)}."
    ]


def _need(item: VerdictCriterion, metrics: Metrics) -> str:
    if item.name in _CHANGES:
        return _CHANGES[item.name]
    show = _SHOW[item.unit]
    if item.value is None:
        return "there is nothing to compare yet; more BUY and SELL calls with a known outcome are needed"
    if item.unit == "count":
        return f"{show(item.value)} of at least {show(item.limit)}: {show(item.limit - item.value)} more are needed"
    if item.interval is None:
        return f"{show(item.value)}, where {show(item.limit)} is the limit"
    low, high = item.interval
    if item.name in ("wanted gain", "flips"):
        return f"its whole interval, {show(low)} to {show(high)}, is beyond {show(item.limit)}; try another candidate"
    if item.value <= item.limit:
        return f"at {show(item.value)} it is not above {show(item.limit)}: more of the same would not change that"
    longer = _longer(item, metrics.comparison.days)
    return f"{show(item.value)} is above {show(item.limit)}, its lower bound {show(low)} is not{longer}"


def _longer(item: VerdictCriterion, days: float) -> str:
    """The bound narrows about with the root of the time: how much more there would have to be, all else equal."""
    if item.value is None or item.interval is None or days <= 0:
        return ""
    factor = ((item.value - item.interval[0]) / (item.value - item.limit)) ** 2
    return f"; if value and noise stay, about {number(max(1.0, days * (factor - 1)), 0)} more days would lift it there"


def _margin(item: VerdictCriterion) -> float | None:
    """Distance to the limit in units of the interval's half width; None where there is no interval."""
    if item.value is None or item.interval is None or item.name in ("wanted gain", "flips", "reviewed"):
        return None
    width = item.value - item.interval[0]
    return (item.interval[0] - item.limit) / width if width > 0 else None
