"""What the shadow's journal says so far: the latest signals, agreement, running accuracy, faults, days still needed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.evaluation.statistics import wilson
from candletune.journal import SIDES, Problems, read_frame
from candletune.labels import forward_returns
from candletune.market.candles import find_candle_file, load_candles, ticker_of

LATEST: Final = 25
_POINTS: Final = 240


@dataclass
class _Cache:
    key: Any = None
    view: dict[str, Any] | None = None


_cache = _Cache()


def live_view(config: Config) -> dict[str, Any]:
    """Everything the live page shows; computed anew only when the journal or a candle file has changed."""
    path = config.live.journal
    if not path.is_file():
        return {"exists": False, "path": str(path), "rows": 0, "mark": "none"}
    candles = _candle_files(config)
    key = (_state(path), tuple(_state(file) for file in candles.values()), config.evaluate, config.labels)
    if _cache.key != key or _cache.view is None:
        _cache.key, _cache.view = key, _look(config, path, tuple(candles))
    return _cache.view


def _state(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


def _candle_files(config: Config) -> dict[str, Path]:
    """Pair -> candle file, for the pairs that have one: without candles the view has no outcomes, and says so."""
    found = {}
    for pair in config.data.pairs:
        try:
            found[pair] = find_candle_file(config.data.folder, pair, config.data.timeframe)
        except InputError:
            continue
    return found


def _look(config: Config, path: Path, pairs: tuple[str, ...]) -> dict[str, Any]:
    problems = Problems()
    frame = read_frame(path, problems=problems).sort("timestamp", "ticker")
    scored = score(frame, _outcomes(config, pairs), config.evaluate.move)
    judged = scored.filter(pl.all_horizontal(f"{side}_correct" for side in SIDES).is_not_null() & ~pl.col("late"))
    effective = effective_count(judged, config.horizon)
    missing = max(0, config.evaluate.min_effective - effective)
    both = frame.filter(pl.all_horizontal(pl.col(f"{side}_status") == "ok" for side in SIDES))
    return {
        "exists": True,
        "path": str(path),
        "rows": len(frame),
        "mark": f"{len(frame)}-{path.stat().st_mtime_ns}",
        "first": frame["timestamp"].min(),
        "last": frame["timestamp"].max(),
        "read": datetime.now(UTC),
        "problems": problems,
        "has_candles": bool(pairs),
        "statuses": {side: _counts(frame[f"{side}_status"]) for side in SIDES},
        "shares": {side: _counts(frame[f"{side}_action"].drop_nulls()) for side in SIDES},
        "late": int(frame["late"].sum()),
        "agreement": (both["active_action"] == both["shadow_action"]).mean() if len(both) else None,
        "answered": len(both),
        "judged": len(judged),
        "effective": effective,
        "needed": config.evaluate.min_effective,
        "days_left": missing * config.horizon / timedelta(days=1),
        "accuracy": {side: _accuracy(judged, side, effective, config.evaluate.confidence) for side in SIDES},
        "confidence": config.evaluate.confidence,
        "chart": _chart(judged, config.horizon, config.evaluate.confidence),
        "latest": scored.sort("timestamp", "ticker", descending=True).head(LATEST).to_dicts(),
    }


def _outcomes(config: Config, pairs: tuple[str, ...]) -> pl.DataFrame:
    minutes = timeframe_minutes(config.data.timeframe)
    frames = [
        forward_returns(
            load_candles(config.data.folder, pair, config.data.timeframe).frame, config.labels.horizon, minutes
        ).select(pl.lit(ticker_of(pair)).alias("ticker"), pl.col("decision_time").alias("timestamp"), "forward_return")
        for pair in pairs
    ]
    schema: dict[str, pl.DataType] = {
        "ticker": pl.String(),
        "timestamp": pl.Datetime("us", "UTC"),
        "forward_return": pl.Float64(),
    }
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def score(frame: pl.DataFrame, outcomes: pl.DataFrame, move: float) -> pl.DataFrame:
    """Add `forward_return` and, by side, `<side>_correct` (null where a side gave no answer or the outcome is open).

    A BUY is right above `move`, a SELL below minus `move`, a HOLD strictly between.
    """
    joined = frame.join(outcomes, on=["ticker", "timestamp"], how="left", maintain_order="left")
    change = pl.col("forward_return")
    right = [
        pl.when(change.is_null())
        .then(None)
        .when(pl.col(f"{side}_action") == "BUY")
        .then(change > move)
        .when(pl.col(f"{side}_action") == "SELL")
        .then(change < -move)
        .when(pl.col(f"{side}_action") == "HOLD")
        .then(change.abs() < move)
        .alias(f"{side}_correct")
        for side in SIDES
    ]
    return joined.with_columns(right)


def effective_count(rows: pl.DataFrame, horizon: timedelta) -> int:
    """How many outcome windows can lie side by side in the rows: overlapping ones are not independent evidence.

    Tickers of one time move together, so they count once.
    """
    count, free = 0, None
    for time in rows["timestamp"].unique().sort():
        if free is None or time >= free:
            count, free = count + 1, time + horizon
    return count


def _counts(values: pl.Series) -> dict[str, int]:
    return {str(name): count for name, count in values.value_counts(sort=True).iter_rows()}


def _accuracy(judged: pl.DataFrame, side: str, effective: int, confidence: float) -> dict[str, Any]:
    rate = judged[f"{side}_correct"].mean()
    low, high = wilson(float(rate), effective, confidence) if isinstance(rate, float) else (0.0, 1.0)
    return {"rate": rate, "interval": [low, high]}


def _chart(judged: pl.DataFrame, horizon: timedelta, confidence: float) -> dict[str, Any] | None:
    """Running accuracy of both sides as SVG points in a 720 x 220 box; None with fewer than two times."""
    times = judged["timestamp"].unique().sort()
    if len(times) < 2:
        return None
    step = max(1, len(times) // _POINTS)
    shown = sorted({*times.gather_every(step), times[-1]})
    start, span = times[0], (times[-1] - times[0]) / timedelta(seconds=1)
    lines: dict[str, list[str]] = {side: [] for side in SIDES}
    bands: dict[str, tuple[list[str], list[str]]] = {side: ([], []) for side in SIDES}
    running = judged.group_by("timestamp", maintain_order=True).agg(
        pl.len(), *(pl.col(f"{side}_correct").sum() for side in SIDES)
    )
    running = running.sort("timestamp").with_columns(
        pl.col("len").cum_sum(), *(pl.col(f"{side}_correct").cum_sum() for side in SIDES)
    )
    wanted = running.filter(pl.col("timestamp").is_in(shown))
    for row in wanted.iter_rows(named=True):
        past = (row["timestamp"] - start) / timedelta(seconds=1)
        effective = max(1, int(past / (horizon / timedelta(seconds=1))) + 1)
        x = 40 + 670 * past / span
        for side in SIDES:
            rate = row[f"{side}_correct"] / row["len"]
            low, high = wilson(rate, effective, confidence)
            lines[side].append(f"{x:.1f},{_y(rate)}")
            bands[side][0].append(f"{x:.1f},{_y(high)}")
            bands[side][1].append(f"{x:.1f},{_y(low)}")
    return {
        "lines": {side: " ".join(points) for side, points in lines.items()},
        "bands": {side: " ".join([*upper, *reversed(lower)]) for side, (upper, lower) in bands.items()},
        "ticks": [(f"{share} %", _y(share / 100)) for share in (0, 25, 50, 75, 100)],
        "start": times[0],
        "end": times[-1],
    }


def _y(share: float) -> str:
    return f"{200 - 180 * share:.1f}"
