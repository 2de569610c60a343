"""Plotly figures as plain JSON. Colours are names of the page's CSS variables, so that a theme switch recolours them.

The page carries plotly.js (`assets`), and figures are its JSON.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from candletune.artifacts import LoggedStep
from candletune.artifacts.metrics import GroupMetrics, Metrics
from candletune.decisions import DECISIONS
from candletune.evaluation.over_time import EquityCurves, Running, Selective
from candletune.report.methods import Method
from candletune.report.text import NAMES

Plotly = dict[str, Any]
"""A part of Plotly's own JSON: a trace, a shape, a whole figure."""
Figure = Plotly
COLOURS: Final = {"active": "@incumbent", "shadow": "@candidate", "market": "@soft"}
DASH: Final = {"active": "dot", "shadow": "solid", "market": "dash"}
"""Lines differ by dash too, never by colour alone."""


def figure(data: list[Plotly], *, height: int = 320, **layout: Any) -> Figure:
    """A figure as the page's script expects it: a trace with the first one's `x` says so instead of repeating it."""
    shared = data[0].get("x") if data else None
    traces = data[:1] + [trace | {"x": "same"} if trace.get("x") == shared else trace for trace in data[1:]]
    return {"data": traces, "layout": layout, "height": height}


def times(values: Sequence[datetime]) -> list[str]:
    """Times as Plotly reads them, UTC, to the minute."""
    return [value.strftime("%Y-%m-%d %H:%M") for value in values]


def _line(name: str, key: str, x: list[Any], y: list[Any], **extra: Any) -> Plotly:
    line = {"color": COLOURS[key], "width": 2, "dash": DASH[key]}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, **extra}


def _band(x: list[Any], low: list[float], high: list[float], colour: str) -> Plotly:
    return {
        "type": "scatter",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": f"{colour}/0.16",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _level(y: float, **extra: Any) -> Plotly:
    line = {"color": "@soft", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, **extra}


def _note(y: float, text: str, side: str = "bottom") -> Plotly:
    place = {"xref": "paper", "x": 1, "xanchor": "right", "y": y, "yanchor": side}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12, "color": "@soft"}}


def running_accuracy(series: Running) -> Figure:
    """Accuracy on BUY and SELL over everything seen so far, both models."""
    x = times(series.time)
    lines = [_line(NAMES[side], side, x, series.sides[side].value, hovertemplate="%{y:.1%}") for side in NAMES]
    return figure(lines, yaxis={"tickformat": ".0%"}, hovermode="x unified")


def running_difference(series: Running, needed: float) -> Figure:
    """Candidate minus incumbent over everything seen so far, in percentage points, with its pointwise band."""
    x = times(series.time)
    value, low, high = (
        _points(line) for line in (series.difference.value, series.difference.low, series.difference.high)
    )
    data = [
        _band(x, low, high, "@candidate"),
        _line("difference", "shadow", x, value, hovertemplate="%{y:+.1f} pp", showlegend=False),
    ]
    # The first points rest on a handful of calls: their bands would flatten all that follows.
    settled = slice(len(x) // 8, None)
    bottom = min([*low[settled], *value, 0.0])
    top = max([*high[settled], *value, 100 * needed])
    pad = 0.1 * (top - bottom)
    return figure(
        data,
        yaxis={"tickformat": "+.0f", "ticksuffix": " pp", "range": [bottom - pad, top + pad]},
        shapes=[_level(0.0), _level(100 * needed, line={"color": "@good", "width": 1.5, "dash": "dash"})],
        annotations=[_note(100 * needed, "needed to promote"), _note(0.0, "no difference", "top")],
        hovermode="x unified",
    )


def _points(shares: Sequence[float]) -> list[float]:
    return [round(100 * share, 3) for share in shares]


def equity(curves: EquityCurves) -> Figure:
    """Growth after fees beside holding, and below it how far each was under its peak."""
    x = times(curves.time)
    names = NAMES | {"market": "Buy and hold"}
    growth = ".0%" if curves.compounded else "+.0%"
    data = [_line(name, key, x, curves.value[key], hovertemplate="%{y:+.1%}") for key, name in names.items()]
    data += [
        _line(f"{name}, drawdown", key, x, curves.fall[key], hovertemplate="%{y:.1%}", yaxis="y2", showlegend=False)
        | {"fill": "tozeroy", "fillcolor": f"{COLOURS[key]}/0.12"}
        for key, name in names.items()
    ]
    return figure(
        data,
        xaxis={"anchor": "y2"},
        yaxis={"tickformat": growth, "domain": [0.36, 1.0]},
        yaxis2={"tickformat": ".0%", "domain": [0.0, 0.28], "title": {"text": "below peak"}},
        hovermode="x unified",
        height=460,
    )


def selective(curves: Mapping[str, Selective]) -> Figure | None:
    """How often BUY and SELL calls were wrong when only the most confident ones are acted on."""
    data = [
        _line(NAMES[side], side, curve.coverage, curve.risk, hovertemplate="%{x:.0%} of the calls: %{y:.1%} wrong")
        for side, curve in curves.items()
    ]
    if not data:
        return None
    return figure(
        data,
        xaxis={"tickformat": ".0%", "range": [0, 1], "title": {"text": "share of the calls, most confident first"}},
        yaxis={"tickformat": ".0%", "rangemode": "tozero", "title": {"text": "share wrong"}},
        height=340,
    )


def calibration(metrics: Metrics) -> Figure | None:
    """How often each model was right at each confidence; point areas are row counts."""
    diagonal = {"color": "@soft", "width": 1, "dash": "dot"}
    data: list[Plotly] = []
    lowest = 1.0
    for side, name in NAMES.items():
        curve = metrics.side(side).calibration
        if not curve:
            continue
        most = max(point.rows for point in curve)
        x = [round(point.confidence, 4) for point in curve]
        lowest = min([lowest, *x])
        data.append(
            _line(name, side, x, [round(point.accuracy, 4) for point in curve])
            | {
                "mode": "lines+markers",
                "marker": {
                    "size": [6 + 14 * (point.rows / most) ** 0.5 for point in curve],
                    "symbol": "square" if side == "active" else "circle",
                    "color": COLOURS[side],
                },
                "text": [f"{point.rows:,} rows" for point in curve],
                "hovertemplate": "confidence %{x:.0%}, right %{y:.0%}<br>%{text}",
            }
        )
    if not data:
        return None
    perfect = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "line": diagonal, "hoverinfo": "skip"}
    data.insert(0, {**perfect, "name": "perfect"})
    left = max(0.0, min(lowest - 0.05, 0.3))
    return figure(
        data,
        xaxis={"tickformat": ".0%", "range": [left, 1], "title": {"text": "confidence of the decision"}},
        yaxis={"tickformat": ".0%", "range": [0, 1], "title": {"text": "share right"}},
        height=360,
    )


def shares(metrics: Metrics) -> Figure:
    """How often each model says what."""
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": decision,
            "y": list(NAMES.values()),
            "x": [round(metrics.side(side).shares[decision], 4) for side in NAMES],
            "marker": {"color": f"@{decision.lower()}"},
            "texttemplate": "%{x:.0%}",
            "textposition": "inside",
            "insidetextanchor": "middle",
            "hovertemplate": f"{decision} %{{x:.1%}}",
        }
        for decision in DECISIONS
    ]
    axis = {"tickformat": ".0%", "range": [0, 1]}
    down = {"autorange": "reversed"}  # the first name on top, as in every table
    return figure(data, barmode="stack", xaxis=axis, yaxis=down, height=200, legend={"traceorder": "normal"})


def monthly(months: Mapping[str, GroupMetrics], agreement: Mapping[str, float]) -> Figure:
    """Accuracy on BUY and SELL by month, both models, and how often they agreed."""
    data: list[Plotly] = []
    for side, name in NAMES.items():
        sides = [group.active if side == "active" else group.shadow for group in months.values()]
        values = [group.accuracy_signals for group in sides]
        counts = [f"{group.signals:,} calls" for group in sides]
        data.append(
            _line(name, side, list(months), values, text=counts, hovertemplate="%{y:.0%}, %{text}")
            | {"mode": "lines+markers", "marker": {"symbol": "square" if side == "active" else "circle", "size": 8}}
        )
    alike = [round(share, 4) for share in agreement.values()]
    bars = {"type": "bar", "name": "Agreement", "x": list(agreement), "y": alike, "marker": {"color": "@line"}}
    return figure(
        [{**bars, "hovertemplate": "%{y:.0%} alike"}, *data],
        xaxis={"type": "category"},
        yaxis={"tickformat": ".0%", "range": [0, 1]},
        hovermode="x unified",
    )


def compared(methods: Sequence[Method]) -> Figure:
    """Every method's accuracy on BUY and SELL, best last so that it is drawn on top; the two models stand out."""
    known = sorted(
        (method for method in methods if method.accuracy_signals is not None),
        key=lambda method: method.accuracy_signals or 0.0,
    )
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [method.name for method in known],
        "x": [round(method.accuracy_signals or 0.0, 4) for method in known],
        "marker": {"color": [COLOURS.get(method.key, "@line") for method in known]},
        "texttemplate": "%{x:.1%}",
        "textposition": "outside",
        "cliponaxis": False,
        "text": [f"{method.signals:,} calls" for method in known],
        "hovertemplate": "%{x:.1%} of %{text}<extra></extra>",
        "showlegend": False,
    }
    axis = {"tickformat": ".0%", "range": [0, 1]}
    return figure([data], xaxis=axis, height=90 + 34 * len(known), margin={"l": 150})


def training(rows: Sequence[LoggedStep]) -> Figure | None:
    """Loss of each optimizer step (and its evaluations) over the steps."""
    steps = [(row.step, row.loss) for row in rows if row.loss is not None and row.step is not None]
    if len(steps) < 2:
        return None
    every = max(1, len(steps) // 400)
    x = [step for step, _ in steps[::every]]
    data = [_line("training loss", "market", x, [round(loss, 4) for _, loss in steps[::every]])]
    data[0]["line"] = {"color": "@soft", "width": 1.2}
    seen = [row for row in rows if row.eval_accuracy is not None]
    for figure_of, name, colour, symbol in (
        (attrgetter("eval_accuracy"), "eval accuracy", "shadow", "circle"),
        (attrgetter("eval_balanced_accuracy"), "eval balanced accuracy", "active", "square"),
    ):
        y = [figure_of(row) for row in seen]
        if any(value is not None for value in y):
            held = _line(name, colour, [row.step for row in seen], y, yaxis="y2", hovertemplate="%{y:.1%}")
            data.append(held | {"mode": "lines+markers", "marker": {"symbol": symbol, "size": 8}})
    return figure(
        data,
        xaxis={"title": {"text": "optimizer step"}},
        yaxis={"title": {"text": "loss"}, "rangemode": "tozero"},
        yaxis2={
            "overlaying": "y",
            "side": "right",
            "tickformat": ".0%",
            "range": [0, 1],
            "showgrid": False,
            "tickmode": "linear",
            "dtick": 0.2,
        },
        margin={"r": 52},
        hovermode="x unified",
    )
