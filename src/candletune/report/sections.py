"""The report's tables and sentences, from the metrics and the scored journal. What is unknown stays None."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from candletune.artifacts.metrics import GroupMetrics, Metrics, SideMetrics
from candletune.config import Config
from candletune.decisions import DECISIONS
from candletune.evaluation.outcomes import ScoredRow
from candletune.evaluation.rule import only_decision
from candletune.report.text import NAMES, interval, number, percent, points
from candletune.report.trading import per_call

EXAMPLES: Final = 8
WORST: Final = 5


def lead_sentence(metrics: Metrics, scored: pl.DataFrame, confidence: float) -> str:
    """The main result in one sentence of plain words."""
    active, shadow = metrics.active.accuracy_signals, metrics.shadow.accuracy_signals
    times = scored["timestamp"].sort()
    span = f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}".replace("-", "\N{NON-BREAKING HYPHEN}")
    tickers = ", ".join(sorted(scored["ticker"].unique().to_list()))
    head = f"Over {number(len(scored))} decisions on {tickers} from {span}, "
    if shadow is None or active is None:
        quiet = " and ".join(
            name.lower() for side, name in NAMES.items() if metrics.side(side).accuracy_signals is None
        )
        always = only_decision(metrics)
        one_class = f" The candidate only ever said {always}." if always else ""
        return (
            f"{head}the {quiet} made no BUY or SELL call with a known outcome, so nothing can be compared.{one_class}"
        )
    gain = metrics.comparison.accuracy_signals
    text = (
        f"{head}the candidate's BUY and SELL calls were right {percent(shadow)} of the time and the incumbent's "
        f"{percent(active)}"
    )
    if gain.value is not None:
        text += f": a difference of {points(gain.value)}"
        if gain.bounds is not None:
            text += f" ({percent(confidence, 0)} interval {points(gain.low)} to {points(gain.high)})"
    return text + "."


def names(judged: Mapping[str, str]) -> dict[str, str]:
    """How the page calls each side, with its model's name."""
    return {side: f"{name}: {judged[side]}" for side, name in NAMES.items()}


@dataclass(frozen=True, slots=True)
class Tile:
    """A number at the top of the page; `swatch` names a model's colour, or is empty."""

    label: str
    value: str
    under: str
    swatch: str = ""


def tiles(metrics: Metrics, config: Config) -> list[Tile]:
    """The numbers at the top of the page."""
    shown = []
    for side, name in NAMES.items():
        entry = metrics.side(side)
        ends = metrics.comparison.sides[side].bounds
        under = f"of {number(entry.signals)} BUY and SELL calls right" if entry.signals else "no BUY or SELL call"
        under += f" ({interval(ends)})" if ends else ""
        shown.append(Tile(name, percent(entry.accuracy_signals), under, name.lower()))
    gain = metrics.comparison.accuracy_signals
    bounds = f"{points(gain.low)} to {points(gain.high)}" if gain.bounds else "nothing to compare"
    calls = f"independent, of {number(metrics.shadow.signals)} overlapping calls"
    return [
        *shown,
        Tile("Difference", points(gain.value), bounds),
        _money_tile(metrics, config),
        Tile("Evidence", number(metrics.comparison.effective, 0), calls),
        _reasons_tile(metrics),
    ]


def _money_tile(metrics: Metrics, config: Config) -> Tile:
    """A call's mean in a simulated market, where a known answer compounds to any figure; else the whole result."""
    if config.simulate.enabled:
        each = per_call(metrics, "shadow", config.evaluate.fee)
        return Tile(
            "Net return a call, simulated", percent(each, 2, signed=True), "candidate, after fees, not compounded"
        )
    money = metrics.shadow.equity
    held = f"after fees; buy and hold {percent(money.buy_and_hold, signed=True)}"
    return Tile("Candidate, acted on", percent(money.net_return, signed=True), held)


def _reasons_tile(metrics: Metrics) -> Tile:
    side = metrics.grounding.shadow if metrics.grounding else None
    if side is None or not side.checked:
        return Tile("Reasons true", percent(None), "no reason could be checked")
    return Tile("Reasons true", f"{side.true} of {side.checked}", "of the candidate's, with every claim true")


def control_sentence(metrics: Metrics) -> str:
    """How the candidate's calls do against outcomes of other times; empty when that was not computed."""
    control = metrics.controls["shadow"]
    if control is None:
        return ""
    return (
        f"A control: held against outcomes of other times ({number(control.shifts)} shifts), the candidate's BUY "
        f"and SELL calls would be right {percent(control.chance)} of the time (95 % of the shifts lie within "
        f"{interval([control.low, control.high])}); {percent(control.p_value)} of the shifts do as well as "
        "the true times."
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """A count in a table of decisions; `right` where row and column are the same decision."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """An outcome: how often each decision met it, as counts and shares of the row."""

    outcome: str
    cells: tuple[Cell, ...]
    recall: float | None


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """A side's decisions by outcome, with the precision of each column."""

    rows: tuple[ConfusionRow, ...]
    precision: tuple[float | None, ...]


def confusion(entry: SideMetrics) -> ConfusionTable | None:
    """A side's confusion matrix with shares of each row, recall and precision; None without a known outcome."""
    if not any(map(sum, entry.confusion)):
        return None
    rows = []
    for outcome, counts in zip(DECISIONS, entry.confusion, strict=True):
        total = sum(counts) or 1
        cells = tuple(
            Cell(count, count / total, decision == outcome) for decision, count in zip(DECISIONS, counts, strict=True)
        )
        rows.append(ConfusionRow(outcome, cells, entry.recall[outcome]))
    return ConfusionTable(tuple(rows), tuple(entry.precision[decision] for decision in DECISIONS))


def crossed(scored: pl.DataFrame) -> dict[str, tuple[Cell, ...]]:
    """By the incumbent's decision, the candidate's, as counts and shares of all rows both answered."""
    answered = scored.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    counts = {
        (mine, other): n for mine, other, n in answered.group_by("active_action", "shadow_action").len().iter_rows()
    }
    total = len(answered) or 1
    return {
        mine: tuple(
            Cell(counts.get((mine, other), 0), counts.get((mine, other), 0) / total, mine == other)
            for other in DECISIONS
        )
        for mine in DECISIONS
    }


def groups(metrics: Metrics) -> list[tuple[str, GroupMetrics]]:
    """Tickers and regimes as rows; months have a chart."""
    return [*metrics.tickers.items(), *metrics.regimes.items()]


_FAILURES: Final[tuple[tuple[str, Callable[[SideMetrics], str]], ...]] = (
    ("answers that did not parse", lambda entry: number(entry.status["invalid"])),
    ("not asked", lambda entry: number(entry.status["skipped"])),
    ("errors", lambda entry: number(entry.status["error"])),
    ("decisions that change from one to the next", lambda entry: percent(entry.flip_rate)),
    ("positions turned over", lambda entry: f"{number(entry.equity.turnover, 0)} times"),
    ("mean time to decide", lambda entry: f"{number(entry.latency_ms, 0)} ms"),
)


def failures(metrics: Metrics, scored: pl.DataFrame) -> list[dict[str, str]]:
    """How each model can go wrong without its accuracy showing it."""
    sides = {side: metrics.side(side) for side in NAMES}
    return [
        {"label": "most frequent decision"} | {side: _most_frequent(entry) for side, entry in sides.items()},
        {"label": "decision never made"} | {side: _never(entry) for side, entry in sides.items()},
        {"label": "longest run of one decision"} | {side: _longest(scored, side) for side in NAMES},
        *({"label": label} | {side: show(entry) for side, entry in sides.items()} for label, show in _FAILURES),
    ]


def _most_frequent(entry: SideMetrics) -> str:
    most = max(DECISIONS, key=lambda name: entry.shares[name])
    return f"{most}, {percent(entry.shares[most])}"


def _never(entry: SideMetrics) -> str:
    return ", ".join(name for name, share in entry.shares.items() if share == 0) or "none"


def _longest(scored: pl.DataFrame, side: str) -> str:
    answered = scored.filter(pl.col(f"{side}_action").is_not_null()).sort("ticker", "timestamp")
    if answered.is_empty():
        return percent(None)
    change = (pl.col(f"{side}_action") != pl.col(f"{side}_action").shift(1)) | (
        pl.col("ticker") != pl.col("ticker").shift(1)
    )
    runs = answered.with_columns(change.fill_null(value=True).cum_sum().alias("run")).group_by("run", "ticker").agg(
        pl.col(f"{side}_action").first().alias("action"), pl.len()
    )  # fmt: skip
    top = runs.sort("len", "ticker", descending=[True, False]).row(0, named=True)
    return f"{number(top['len'])} × {top['action']} ({top['ticker']})"


def worst_calls(scored: pl.DataFrame) -> list[ScoredRow]:
    """The candidate's calls that cost most."""
    calls = scored.filter(pl.col("shadow_signed").is_not_null()).sort("shadow_signed", "timestamp").head(WORST)
    wanted = ("timestamp", "ticker", "price", "shadow_action", "active_action", "forward_return", "shadow_signed")
    return calls.select(wanted).to_dicts()


def disagreements(scored: pl.DataFrame) -> list[ScoredRow]:
    """Decision times at which the models differ: those with reasons first, then evenly spread over time."""
    different = scored.filter(
        pl.col("active_action").is_not_null()
        & pl.col("shadow_action").is_not_null()
        & (pl.col("active_action") != pl.col("shadow_action"))
    ).sort("timestamp", "ticker")
    explained = different.filter(pl.col("active_reasoning").is_not_null() & pl.col("shadow_reasoning").is_not_null())
    source = explained if len(explained) else different
    known = source.filter(pl.col("forward_return").is_not_null())
    source = known if len(known) else source
    if source.is_empty():
        return []
    indices = sorted({round(i * (len(source) - 1) / max(1, EXAMPLES - 1)) for i in range(EXAMPLES)})
    return [source.row(index, named=True) for index in indices]
