"""The report's tables and sentences, from metrics.json and the scored journal. What is missing stays None."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from candletune.decisions import DECISIONS
from candletune.report.figures import NAMES
from candletune.report.text import growth, interval, is_number, number, percent, points

EXAMPLES: Final = 8
WORST: Final = 5


def sentence(metrics: Mapping[str, Any], scored: pl.DataFrame, confidence: float) -> str:
    """The main result in one sentence of plain words."""
    active, shadow = (metrics.get(side, {}).get("accuracy_signals") for side in NAMES)
    times = scored["timestamp"].sort()
    span = f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}".replace("-", "\N{NON-BREAKING HYPHEN}")
    tickers = ", ".join(sorted(scored["ticker"].unique().to_list()))
    head = f"Over {number(len(scored))} decisions on {tickers} from {span}, "
    if not is_number(shadow) or not is_number(active):
        quiet = " and ".join(
            name.lower() for side, name in NAMES.items() if not is_number(metrics.get(side, {}).get("accuracy_signals"))
        )
        return (
            f"{head}the {quiet} made no BUY or SELL call with a known outcome, so there is no accuracy to compare."
            f"{_one_word(metrics.get('shadow', {}))}"
        )
    gain = metrics.get("comparison", {}).get("accuracy_signals") or {}
    text = (
        f"{head}the candidate's BUY and SELL calls were right {percent(shadow)} of the time and the incumbent's "
        f"{percent(active)}"
    )
    if is_number(gain.get("value")):
        text += f": a difference of {points(gain['value'])}"
        if is_number(gain.get("low")):
            text += f" ({percent(confidence, 0)} interval {points(gain['low'])} to {points(gain['high'])})"
    return text + "."


def _one_word(entry: Mapping[str, Any]) -> str:
    """Said when the candidate only ever made one decision."""
    always = [name for name, share in (entry.get("shares") or {}).items() if share == 1]
    return f" The candidate only ever said {always[0]}." if always else ""


def tiles(metrics: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[dict[str, str]]:
    """The numbers at the top of the page."""
    comparison = metrics.get("comparison", {})
    found = []
    for side, name in reversed(NAMES.items()):
        entry, bounds = metrics.get(side, {}), intervals.get(side)
        calls = entry.get("signals", 0)
        under = f"of {number(calls)} BUY and SELL calls right" if calls else "no BUY or SELL call"
        if bounds:
            under += f" ({interval([bounds['low'], bounds['high']])})"
        value = percent(entry.get("accuracy_signals"))
        found.append({"label": name, "value": value, "under": under, "swatch": name.lower()})
    gain = comparison.get("accuracy_signals") or {}
    bounds = (
        f"{points(gain.get('low'))} to {points(gain.get('high'))}"
        if is_number(gain.get("low"))
        else "nothing to compare"
    )
    found.append({"label": "Difference", "value": points(gain.get("value")), "under": bounds, "swatch": ""})
    money = metrics.get("shadow", {}).get("equity", {})
    held = f"after fees; buy and hold {percent(money.get('buy_and_hold'), signed=True)}"
    result = growth(money.get("net_return"))
    found.append({"label": "Candidate, acted on", "value": result, "under": held, "swatch": ""})
    effective = f"independent, of {number(metrics.get('shadow', {}).get('signals', 0))} overlapping calls"
    value = number(comparison.get("effective"), 0)
    found.append({"label": "Evidence", "value": value, "under": effective, "swatch": ""})
    return found


def side_bounds(metrics: Mapping[str, Any], side: str) -> Mapping[str, Any] | None:
    """The evaluation's own interval of a side's accuracy on BUY and SELL, when it computed one."""
    found = (metrics.get("comparison", {}).get("sides") or {}).get(side) or {}
    return _bounds(found)


def control_sentence(metrics: Mapping[str, Any]) -> str:
    """How the candidate's calls do against outcomes of other times; empty when that was not computed."""
    control = (metrics.get("controls") or {}).get("shadow")
    if not control or not is_number(control.get("as_good")):
        return ""
    return (
        f"A control: held against outcomes of other times ({number(control['shifts'])} shifts), the candidate's BUY "
        f"and SELL calls would be right {percent(control['chance'])} of the time (95 % of the shifts lie within "
        f"{interval([control['low'], control['high']])}); {percent(control['as_good'])} of the shifts do as well as "
        "the true times."
    )


def confusion(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """A side's confusion matrix with shares of each row, recall and precision; None without one."""
    matrix = entry.get("confusion")
    if not matrix or not any(map(sum, matrix)):
        return None
    rows = []
    for outcome, counts in zip(DECISIONS, matrix, strict=True):
        total = sum(counts)
        cells = [
            {"count": count, "share": count / total if total else 0.0, "right": said == outcome}
            for said, count in zip(DECISIONS, counts, strict=True)
        ]
        rows.append({"outcome": outcome, "cells": cells, "recall": (entry.get("recall") or {}).get(outcome)})
    precision = [(entry.get("precision") or {}).get(decision) for decision in DECISIONS]
    return {"rows": rows, "precision": precision, "balanced": entry.get("balanced_accuracy")}


def crossed(scored: pl.DataFrame) -> list[dict[str, Any]]:
    """Incumbent's decision (rows) by candidate's (columns), as counts and shares of all rows both answered."""
    both = scored.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    counts = {
        (mine, other): count for mine, other, count in both.group_by("active_action", "shadow_action").len().iter_rows()
    }
    total = len(both) or 1
    return [
        {
            "said": mine,
            "cells": [
                {"count": counts.get((mine, o), 0), "share": counts.get((mine, o), 0) / total, "right": mine == o}
                for o in DECISIONS
            ],
        }
        for mine in DECISIONS
    ]


def methods(metrics: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Both models and every baseline, with what they share."""
    rows = [_method(names[side], side, metrics.get(side, {})) for side in reversed(NAMES)]
    for row, side in zip(rows, reversed(NAMES), strict=True):
        row["bounds"] = side_bounds(metrics, side)
    return rows + [_method(name, "", entry) for name, entry in (metrics.get("baselines") or {}).items()]


def _method(name: str, key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("accuracy_signals", "accuracy_all", "balanced_accuracy", "mean_signed_return")
    row = {"name": name, "key": key, "signals": entry.get("signals", 0)} | {k: entry.get(k) for k in keys}
    return row | {"bounds": _bounds(entry.get("interval")), "lead": _bounds(entry.get("lead"))}


def _bounds(found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An interval of metrics.json, when both its ends are known."""
    return found if found and is_number(found.get("low")) and is_number(found.get("high")) else None


def method_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether a simpler method does as well as the candidate."""
    mine = rows[0]["accuracy_signals"]
    others = [row for row in rows[1:] if not row["key"] and is_number(row["accuracy_signals"])]
    if not others:
        return "No baseline was computed."
    if not is_number(mine):
        return "The candidate made no BUY or SELL call, so it can't be compared on them."
    best = max(others, key=lambda row: row["accuracy_signals"])
    if best["accuracy_signals"] >= mine:
        return (
            f"A simpler method does at least as well: {best['name']} was right on {percent(best['accuracy_signals'])} "
            f"of its BUY and SELL calls, the candidate on {percent(mine)}. The language model adds words, not accuracy."
        )
    return (
        f"The candidate's {percent(mine)} is above every baseline; the best of them, {best['name']}, reaches "
        f"{percent(best['accuracy_signals'])}."
    )


def groups(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tickers and regimes as rows; months have a chart."""
    found = []
    for kind in ("tickers", "regimes"):
        for name, entry in (metrics.get(kind) or {}).items():
            row: dict[str, Any] = {"name": name, "rows": entry.get("rows")}
            found.append(row | {side: entry.get(side, {}) for side in NAMES})
    return found


def failures(metrics: Mapping[str, Any], scored: pl.DataFrame) -> list[dict[str, str]]:
    """How each model can go wrong without its accuracy showing it."""
    rows = []
    for label, show in (
        ("most frequent decision", _frequent),
        ("decision never made", _never),
        ("answers that did not parse", lambda entry: _status(entry, "invalid")),
        ("not asked", lambda entry: _status(entry, "skipped")),
        ("errors", lambda entry: _status(entry, "error")),
        ("decisions that change from one to the next", lambda entry: percent(entry.get("flip_rate"))),
        ("deepest fall of the account", lambda entry: percent(entry.get("equity", {}).get("max_drawdown"))),
        ("positions turned over", lambda entry: f"{number(entry.get('equity', {}).get('turnover'), 0)} times"),
        ("mean time to decide", lambda entry: f"{number(entry.get('latency_ms'), 0)} ms"),
    ):
        rows.append({"label": label} | {side: show(metrics.get(side, {})) for side in NAMES})
    longest = {side: _longest(scored, side) for side in NAMES}
    rows.insert(2, {"label": "longest run of one decision"} | longest)
    return rows


def _frequent(entry: Mapping[str, Any]) -> str:
    shares = entry.get("shares") or {}
    if not shares:
        return percent(None)
    most = max(shares, key=lambda name: shares[name])
    return f"{most}, {percent(shares[most])}"


def _never(entry: Mapping[str, Any]) -> str:
    return ", ".join(name for name, share in (entry.get("shares") or {}).items() if share == 0) or "none"


def _status(entry: Mapping[str, Any], name: str) -> str:
    return number((entry.get("status") or {}).get(name, 0))


def _longest(scored: pl.DataFrame, side: str) -> str:
    said = scored.filter(pl.col(f"{side}_action").is_not_null()).sort("ticker", "timestamp")
    if said.is_empty():
        return percent(None)
    run = (pl.col(f"{side}_action") != pl.col(f"{side}_action").shift(1)) | (
        pl.col("ticker") != pl.col("ticker").shift(1)
    )
    runs = said.with_columns(run.fill_null(value=True).cum_sum().alias("run")).group_by("run", "ticker").agg(
        pl.col(f"{side}_action").first().alias("action"), pl.len()
    )  # fmt: skip
    top = runs.sort("len", "ticker", descending=[True, False]).row(0, named=True)
    return f"{number(top['len'])} × {top['action']} ({top['ticker']})"


def worst_calls(scored: pl.DataFrame) -> list[dict[str, Any]]:
    """The candidate's calls that cost most."""
    calls = scored.filter(pl.col("shadow_signed").is_not_null()).sort("shadow_signed", "timestamp").head(WORST)
    wanted = ("timestamp", "ticker", "price", "shadow_action", "active_action", "forward_return", "shadow_signed")
    return calls.select(wanted).to_dicts()


def disagreements(scored: pl.DataFrame) -> list[dict[str, Any]]:
    """Decision times at which the models differ: those with reasons first, then evenly spread over time."""
    different = scored.filter(
        pl.col("active_action").is_not_null()
        & pl.col("shadow_action").is_not_null()
        & (pl.col("active_action") != pl.col("shadow_action"))
    ).sort("timestamp", "ticker")
    told = different.filter(pl.col("active_reasoning").is_not_null() & pl.col("shadow_reasoning").is_not_null())
    source = told if len(told) else different
    known = source.filter(pl.col("forward_return").is_not_null())
    source = known if len(known) else source
    places = (
        sorted({round(i * (len(source) - 1) / max(1, EXAMPLES - 1)) for i in range(EXAMPLES)}) if len(source) else []
    )
    return [source.row(place, named=True) for place in places]
