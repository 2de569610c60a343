"""Series for the report's charts, from the scored journal: running accuracy and difference, equity, agreement."""

from datetime import timedelta
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.evaluation.review.sample import SIDES
from candletune.evaluation.statistics import effective_size, wilson

Floats = NDArray[np.float64]
POINTS: Final = 160
"""Points of a line on the page: more than a screen shows, few enough to stay small."""
_EARLIEST: Final = 10


def overlap(scored: pl.DataFrame, horizon: timedelta) -> int:
    """Later decision times whose outcome windows share candles with one of the journal's."""
    steps = scored["timestamp"].unique().sort().diff().drop_nulls()
    if steps.is_empty():
        return 0
    step = steps.median()
    assert isinstance(step, timedelta)  # noqa: S101 - narrows the type; the median of durations is one
    return max(0, -(-horizon // step) - 1)


def signals_by_time(scored: pl.DataFrame) -> pl.DataFrame:
    """BUY and SELL calls with a known outcome, and how many were right, by time and side; every time has a row."""
    known = scored.filter(pl.col("forward_return").is_not_null())
    columns = []
    for side in SIDES:
        acts = pl.col(f"{side}_acts").fill_null(value=False)
        right = pl.col(f"{side}_correct").fill_null(value=False)
        columns += [acts.sum().cast(pl.Float64).alias(f"{side}_n"), (acts & right).sum().cast(pl.Float64).alias(side)]
    return known.group_by("timestamp").agg(columns).sort("timestamp")


def side_interval(times: pl.DataFrame, side: str, lags: int, confidence: float) -> dict[str, Any] | None:
    """Accuracy on BUY and SELL with Wilson's interval over the calls' effective number; None without a call."""
    acting = times.filter(pl.col(f"{side}_n") > 0)
    if acting.is_empty():
        return None
    right, calls = acting[side].to_numpy(), acting[f"{side}_n"].to_numpy()
    rate = float(right.sum() / calls.sum())
    effective = effective_size(right / calls, lags)
    low, high = wilson(rate, max(1, round(effective)), confidence)
    return {"rate": rate, "low": low, "high": high, "signals": int(calls.sum()), "effective": effective}


def running(times: pl.DataFrame, lags: int, confidence: float) -> dict[str, Any] | None:
    """Accuracy of both sides and their difference over everything seen so far, at up to POINTS times.

    The band is pointwise: the difference of two ratios is linearised, and the variance of its per-time terms adds the
    covariances of overlapping windows with falling weights (Newey and West 1987). None with too few times.
    """
    if len(times) < 2 * _EARLIEST:
        return None
    # Earlier than a twentieth of the way the rates still jump with every call.
    first = max(_EARLIEST, len(times) // 20)
    marks = np.unique(np.linspace(first, len(times), min(POINTS, len(times) - first + 1)).astype(int))
    columns = {name: times[name].to_numpy() for name in ("active", "active_n", "shadow", "shadow_n")}
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    found: dict[str, list[Any]] = {name: [] for name in ("time", "active", "shadow", "difference", "low", "high")}
    for mark in marks:
        seen = {name: values[:mark] for name, values in columns.items()}
        if not (seen["active_n"].sum() and seen["shadow_n"].sum()):
            continue
        terms, rates = np.zeros(mark), {}
        for side, sign in (("active", -1.0), ("shadow", 1.0)):
            total = seen[f"{side}_n"].sum()
            rates[side] = float(seen[side].sum() / total)
            terms += sign * (seen[side] - rates[side] * seen[f"{side}_n"]) / total
        gain, error = rates["shadow"] - rates["active"], _long_run_error(terms, lags)
        found["time"].append(times["timestamp"][int(mark) - 1])
        for name, value in (
            *rates.items(),
            ("difference", gain),
            ("low", gain - z * error),
            ("high", gain + z * error),
        ):
            found[name].append(round(float(value), 5))
    return found if len(found["time"]) > 1 else None


def _long_run_error(terms: Floats, lags: int) -> float:
    variance = float(terms @ terms)
    for lag in range(1, min(lags, len(terms) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(terms[lag:] @ terms[:-lag])
    return float(max(variance, 0.0) ** 0.5)


def equity_curves(scored: pl.DataFrame, fee: float) -> dict[str, list[Any]]:
    """Growth of 1 by acting on each side's calls after fees, and by holding: the curves behind `metrics.equity`.

    Long on BUY, short on SELL, flat on HOLD until the ticker's next decision; tickers share the capital equally.
    """
    frame = scored.sort("ticker", "timestamp")
    change = (pl.col("price").shift(-1) / pl.col("price") - 1).over("ticker").fill_null(0.0)
    frame = frame.with_columns(market=change)
    for side in SIDES:
        position = pl.col(f"{side}_action").replace_strict(
            {"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}, return_dtype=pl.Float64
        )
        frame = frame.with_columns(held=position.forward_fill().over("ticker").fill_null(0.0))
        turn = (pl.col("held") - pl.col("held").shift(1).over("ticker").fill_null(0.0)).abs()
        frame = frame.with_columns((pl.col("held") * pl.col("market") - turn * fee).alias(f"{side}_net"))
    names = {"market": "market", "active": "active_net", "shadow": "shadow_net"}
    table = frame.group_by("timestamp").agg(pl.col(list(names.values())).mean()).sort("timestamp")
    grown = table.select("timestamp", *((1 + pl.col(column)).cum_prod().alias(n) for n, column in names.items()))
    shown = thin(grown, 3 * POINTS)
    return {"time": shown["timestamp"].to_list()} | {name: shown[name].round(5).to_list() for name in names}


def agreement_by_month(scored: pl.DataFrame) -> list[dict[str, Any]]:
    """Share of rows both sides answered alike, by month."""
    both = scored.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    month = pl.col("timestamp").dt.strftime("%Y-%m").alias("month")
    table = both.group_by(month).agg(
        (pl.col("active_action") == pl.col("shadow_action")).mean().alias("share"), pl.len()
    )
    return table.sort("month").to_dicts()


def thin(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most about `count` evenly spread rows, the last one always among them."""
    if len(frame) <= count:
        return frame
    places = np.unique(np.linspace(0, len(frame) - 1, count).round().astype(int))
    return frame.select(pl.all().gather(places.tolist()))
