"""The dataset card: one self-contained HTML page that shows a person what the model will be trained on.

The same content stands in the report, which may be mailed without the card's file.
"""

from calendar import monthrange
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from candletune import assets
from candletune.artifacts import DatasetAudit, DatasetDescription, DatasetManifest, HeadlineCoverage
from candletune.base.chat import ChatFormat
from candletune.base.tokenizer import chat_at_hand
from candletune.config import Config
from candletune.dataset.coverage import describe_counts, describe_coverage
from candletune.dataset.files import Examples
from candletune.decisions import DECISIONS, Decision
from candletune.files import write_text
from candletune.splits import EVAL, TRAIN

TEMPLATES = Path(__file__).parent
INDICATORS = (
    ("rsi", "RSI(14)", 0.0, 100.0),
    ("ema_gap_pct", "EMA gap, %", -3.0, 3.0),
    ("bb_percent", "Bollinger %B", -0.5, 1.5),
    ("change_24h", "24h change, %", -12.0, 12.0),
)
_BINS = 30
Plotly = dict[str, Any]
"""A part of a figure in Plotly's JSON, whose schema is Plotly's own."""
_MONTHS: Plotly = {"xaxis": {"type": "category"}, "bargap": 0.06}
"""Months as names: on an axis of dates their bars would be as wide as February, with gaps after longer months."""
_EXAMPLES_A_CLASS = 2


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One example as the page shows it: what follows its decision, and the token sequence in five parts."""

    label: Decision
    title: str
    outcome: str
    before: str
    prompt: str
    after: str
    completion: str
    end: str


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What the card shows, on its own page or in the report.

    Attributes:
        manifest: of the dataset.
        audit: what is known of overlap and duplicates, and of rebuilt rows when there was an audit.
        chat: the base's; None where the base is not at hand.
        examples: a few of each class.
        indicators: name -> title of those with a chart.
        figures: by the id of their place.
        headlines: what became of their records, and how much of the time they cover; empty without.
    """

    manifest: DatasetManifest
    audit: DatasetDescription | DatasetAudit
    chat: ChatFormat | None
    examples: list[ShownExample]
    indicators: dict[str, str]
    figures: dict[str, Plotly]
    headlines: list[str]


def dataset_card(
    manifest: DatasetManifest, audit: DatasetDescription | DatasetAudit, examples: Examples, config: Config
) -> DatasetCard:
    """What there is to show.

    Args:
        manifest: of the dataset.
        audit: see `DatasetCard`.
        examples: all of them.
        config: names the base, whose chat the examples are shown in where it is at hand.
    """
    meta = examples.meta
    chat = chat_at_hand(config)
    figures = {
        "shares": _natural_shares(manifest),
        "classes": _examples_by_class(meta),
        "months": _examples_by_month(meta),
        "reasons": _reason_templates(meta),
        **({} if manifest.headlines is None else {"headlines": _told_by_month(manifest.headlines)}),
    } | {f"indicator_{spec[0]}": _distribution(meta, *spec) for spec in INDICATORS}
    return DatasetCard(
        manifest,
        audit,
        chat,
        _pick(examples, chat),
        {name: title for name, title, *_ in INDICATORS},
        {f"card_{name}": figure for name, figure in figures.items()},
        [] if manifest.headlines is None else _said_of_headlines(manifest.headlines),
    )


def write_card(
    target: Path,
    manifest: DatasetManifest,
    audit: DatasetDescription | DatasetAudit,
    examples: Examples,
    config: Config,
) -> None:
    """Write the page; see `dataset_card`."""
    card = dataset_card(manifest, audit, examples, config)
    page = _environment().get_template("card.html.j2")
    simulated = config.simulate.enabled
    write_text(target, page.render(card=card, figures=card.figures, simulated=simulated, plotly=assets.PLOTLY))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    jinja = Environment(
        loader=FileSystemLoader([TEMPLATES, assets.FOLDER]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals["asset"] = lambda name: Markup(assets.asset(name))  # noqa: S704 - our own file, not input
    return jinja


def _figure(data: list[Plotly], *, height: int = 260, **layout: Any) -> Plotly:
    return {"data": data, "layout": layout, "height": height}


def _ink(label: Decision) -> str:
    return f"@{label.lower()}"


def _natural_shares(manifest: DatasetManifest) -> Plotly:
    """Class shares of every candidate decision time by month: before balancing."""
    months = manifest.candidates.by_month
    data = [
        {
            "type": "bar",
            "name": label,
            "x": list(months),
            "y": [row.share(label) for row in months.values()],
            "marker": {"color": _ink(label)},
        }
        for label in DECISIONS
    ]
    layout: Plotly = {"barmode": "stack", "yaxis": {"tickformat": ".0%", "range": [0, 1]}, **_MONTHS}
    boundary = manifest.eval_boundary
    if boundary is not None and (month := f"{boundary:%Y-%m}") in months:
        # A bar is a month, from its place less a half to its place and a half: the line stands on its day.
        place = list(months).index(month) - 0.5 + (boundary.day - 1) / monthrange(boundary.year, boundary.month)[1]
        line = {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "yref": "paper"}
        layout["shapes"] = [line | {"line": {"dash": "dot", "width": 2, "color": "@ink"}}]
    return _figure(data, **layout)


def _told_by_month(covered: HeadlineCoverage) -> Plotly:
    """Share of each month's decision times with at least one headline."""
    months = covered.by_month
    shares, counts = zip(*((month.told, month.headlines) for month in months.values()), strict=True)
    data = [
        {
            "type": "bar",
            "name": "decision times with a headline",
            "x": list(months),
            "y": list(shares),
            "text": [f"{count:,} headlines" for count in counts],
            "textposition": "none",
            "marker": {"color": _ink("HOLD")},
        }
    ]
    return _figure(data, yaxis={"tickformat": ".0%", "range": [0, 1]}, bargap=0)


def _said_of_headlines(covered: HeadlineCoverage) -> list[str]:
    tickers = [
        f"{ticker}: {own.headlines:,} filed under it; they reach {own.train:.0%} of the decision times before the "
        f"test period and {own.replay:.0%} of those in it"
        for ticker, own in covered.by_ticker.items()
    ]
    return [*describe_counts(covered.counts), describe_coverage(covered), *tickers]


def _bars(label: Decision, x: list[Any], y: list[Any]) -> Plotly:
    return {"type": "bar", "name": label, "x": x, "y": y, "marker": {"color": _ink(label)}}


def _examples_by_class(meta: pl.DataFrame) -> Plotly:
    """Examples of each class by asset and, below it, split."""
    groups = [(asset, split) for asset in sorted(meta["asset"].unique().to_list()) for split in (TRAIN, EVAL)]
    table = meta.group_by("asset", "split", "label").len()
    counts = {(asset, split, label): count for asset, split, label, count in table.iter_rows()}
    x = [[asset for asset, _ in groups], [split for _, split in groups]]
    data = [_bars(label, x, [counts.get((*group, label), 0) for group in groups]) for label in DECISIONS]
    return _figure(data, barmode="group", yaxis={"title": {"text": "examples"}})


def _examples_by_month(meta: pl.DataFrame) -> Plotly:
    table = meta.group_by(pl.col("decision_time").dt.strftime("%Y-%m").alias("month"), "label").len().sort("month")
    data = []
    for label in DECISIONS:
        rows = table.filter(label=label)
        data.append(_bars(label, rows["month"].to_list(), rows["len"].to_list()))
    return _figure(data, barmode="stack", yaxis={"title": {"text": "examples"}}, **_MONTHS)


def _distribution(meta: pl.DataFrame, name: str, title: str, low: float, high: float) -> Plotly:
    """Share of each class's examples in each of `_BINS` bins; what lies outside the range goes to its end bins."""
    width = (high - low) / _BINS
    place = ((pl.col(name) - low) / width).floor().clip(0, _BINS - 1).cast(pl.Int64)
    middles = [round(low + (index + 0.5) * width, 4) for index in range(_BINS)]
    data = []
    for label in DECISIONS:
        counts = dict(meta.filter(label=label).group_by(place.alias("bin")).len().iter_rows())
        total = max(1, sum(counts.values()))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label,
                "x": middles,
                "y": [round(counts.get(index, 0) / total, 4) for index in range(_BINS)],
                "line": {"shape": "hvh", "color": _ink(label), "width": 2},
                "showlegend": name == INDICATORS[0][0],
            }
        )
    return _figure(data, xaxis={"title": {"text": title}}, yaxis={"tickformat": ".0%", "rangemode": "tozero"})


def _reason_templates(meta: pl.DataFrame) -> Plotly:
    """Share of each reason template among its class's examples."""
    table = (
        meta.group_by("label", "reason_template")
        .agg(share=pl.len())
        .with_columns(share=(pl.col("share") / pl.col("share").sum().over("label")).round(4))
        .sort("label", "share", "reason_template", descending=[False, True, False])
    )
    data = []
    for label in DECISIONS:
        rows = table.filter(label=label)
        bars = _bars(label, list(range(1, len(rows) + 1)), rows["share"].to_list())
        data.append(bars | {"text": rows["reason_template"].to_list(), "textposition": "none"})
    return _figure(
        data,
        barmode="group",
        xaxis={"title": {"text": "template, most used first"}},
        yaxis={"tickformat": ".0%", "rangemode": "tozero"},
    )


def _pick(examples: Examples, chat: ChatFormat | None) -> list[ShownExample]:
    """A few examples of each class, from the early and the late part of the set, as the model sees them."""
    meta = examples.meta
    texts = dict.fromkeys(("before", "after", "end"), "") | {"after": "\n"} if chat is None else chat.texts
    shown = []
    for label in DECISIONS:
        rows = (meta["label"] == label).arg_true().to_list()
        for place in range(_EXAMPLES_A_CLASS):
            index = rows[len(rows) * (2 * place + 1) // (2 * _EXAMPLES_A_CLASS)]
            row = meta.row(index, named=True)
            made = f"{row['decision_time']:%Y-%m-%d %H:%M} UTC"
            shown.append(
                ShownExample(
                    label=label,
                    title=f"{row['asset']} {row['timeframe']}, {made}, {row['split']}",
                    outcome=f"{row['forward_return']:+.2%}",
                    prompt=examples.prompts[index],
                    completion=examples.completions[index],
                    **texts,
                )
            )
    return shown
