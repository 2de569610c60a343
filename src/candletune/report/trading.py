"""Acting on the calls as traders look at it: ratios and a calendar of returns, both models beside holding.

In a simulated market nothing is compounded: a known answer, compounded call after call, makes figures that nobody
should believe.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from candletune.artifacts.metrics import Metrics
from candletune.config import Config
from candletune.evaluation import ratios
from candletune.evaluation.ratios import Drawdown, Ratios
from candletune.report.calls import CallsView, calls_view
from candletune.report.text import NAMES

ALL = NAMES | {"market": "Buy and hold"}
WHAT = ("correct", "signed")


@dataclass(frozen=True, slots=True)
class TradingRow:
    """A model or holding: its ratios, and what a call brought after the fees of opening and closing it."""

    name: str
    key: str
    ratios: Ratios
    per_call: float | None


@dataclass(frozen=True, slots=True)
class DirectionRow:
    """A model's BUY calls, or its SELL calls: how many, the share that was right, and what one brought after fees."""

    key: str
    action: str
    calls: int
    right: float | None
    per_call: float | None


@dataclass(frozen=True, slots=True)
class MonthCell:
    """A month's return; `weight` from 0 to 1 is how strong its colour is, `tone` which."""

    value: float | None
    weight: float = 0.0
    tone: str = ""


@dataclass(frozen=True, slots=True)
class YearRow:
    """A year of one model or of holding; its total is the mean of the months where nothing is compounded."""

    year: str
    months: tuple[MonthCell, ...]
    total: float


@dataclass(frozen=True, slots=True)
class TradingView:
    """The money section's tables and every call.

    Attributes:
        rows: ratios of both models and of holding.
        directions: BUY and SELL calls apart.
        drawdowns: the candidate's deepest.
        calendar: months by name.
        compounded: False in a simulated market.
        calls: every call, for the chart and the list.
    """

    rows: list[TradingRow]
    directions: list[DirectionRow]
    drawdowns: list[Drawdown]
    calendar: dict[str, list[YearRow]]
    compounded: bool
    calls: CallsView


def trading_view(config: Config, metrics: Metrics, scored: pl.DataFrame) -> TradingView:
    """Ratios and calendar of both models and of holding, and every call."""
    fee, compounded = config.evaluate.fee, not config.simulate.enabled
    rows = []
    for key, name in ALL.items():
        found = ratios.ratios_of(scored, key, fee, compounded=compounded)
        if found is not None:
            rows.append(TradingRow(name, key, found, per_call(metrics, key, fee)))
    returns = {name: ratios.by_month(scored, key, fee, compounded=compounded) for key, name in ALL.items()}
    largest = max((abs(value) for months in returns.values() for value in months.values()), default=0.0)
    calendar = {name: _years(months, largest, compounded=compounded) for name, months in returns.items()}
    drawdowns = ratios.worst_drawdowns(scored, "shadow", fee, compounded=compounded)
    return TradingView(rows, directions(scored, fee), drawdowns, calendar, compounded, calls_view(config, scored))


def directions(scored: pl.DataFrame, fee: float) -> list[DirectionRow]:
    """BUY and SELL calls of both models apart: a model can live of one of them alone."""
    found = []
    for side in NAMES:
        for action in ("BUY", "SELL"):
            calls = scored.filter(pl.col(f"{side}_acts") & (pl.col(f"{side}_action") == action))
            right, signed = (calls.select(pl.col(f"{side}_{name}").cast(pl.Float64).mean()).item() for name in WHAT)
            found.append(DirectionRow(side, action, len(calls), right, None if signed is None else signed - 2 * fee))
    return found


def per_call(metrics: Metrics, key: str, fee: float) -> float | None:
    """Mean return of a call over its horizon, less the fees of opening and closing it; None for holding."""
    signed = None if key == "market" else metrics.side(key).mean_signed_return
    return None if signed is None else signed - 2 * fee


def _years(months: Mapping[str, float], largest: float, *, compounded: bool) -> list[YearRow]:
    rows = []
    for year in sorted({month[:4] for month in months}):
        values = [months.get(f"{year}-{number:02d}") for number in range(1, 13)]
        known = [value for value in values if value is not None]
        total = sum(known) / len(known)
        if compounded:
            total = 1.0
            for value in known:
                total *= 1 + value
            total -= 1
        rows.append(YearRow(year, tuple(_cell(value, largest) for value in values), total))
    return rows


def _cell(value: float | None, largest: float) -> MonthCell:
    if value is None:
        return MonthCell(None)
    return MonthCell(value, abs(value) / largest if largest else 0.0, "good" if value >= 0 else "bad")
