"""The plan's metrics and what belongs beside them, for one side of a scored journal."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.decisions import DECISIONS

Floats = NDArray[np.float64]


def side_metrics(rows: pl.DataFrame, side: str, *, move: float, fee: float) -> dict[str, Any]:
    """Everything about `active` or `shadow`.

    Args:
        rows: scored rows (see `outcomes.score_rows`), any order.
        side: `active` or `shadow`.
        move: the plan's 1 % as a fraction.
        fee: cost of changing the position by one, as a fraction of the price.
    """
    status = rows[f"{side}_status"]
    answered = rows.filter(pl.col(f"{side}_action").is_not_null())
    known = answered.filter(pl.col("forward_return").is_not_null())
    acting = known.filter(pl.col(f"{side}_acts"))
    return {
        "rows": len(rows),
        "pending": int(rows["forward_return"].is_null().sum()),
        "status": {name: int((status == name).sum()) for name in ("ok", "invalid", "skipped", "error")},
        "coverage": _share(status == "ok"),
        "shares": {name: _share(answered[f"{side}_action"] == name) for name in DECISIONS},
        "signals": len(acting),
        "accuracy_signals": _mean(acting[f"{side}_correct"]),
        "accuracy_all": _mean(known[f"{side}_correct"]),
        "direction": _mean(acting[f"{side}_signed"] > 0),
        "mean_signed_return": _mean(acting[f"{side}_signed"]),
        "flip_rate": flip_rate(rows, side),
        **confusion(known, side, move),
        **probability_scores(known, side, move),
        "equity": equity(rows, side, fee),
        "latency_ms": _mean(rows[f"{side}_latency_ms"]),
    }


def flip_rate(rows: pl.DataFrame, side: str) -> float | None:
    """Share of consecutive answered decisions of the same ticker that differ; None without a pair."""
    answered = rows.filter(pl.col(f"{side}_action").is_not_null()).sort("ticker", "timestamp")
    before = pl.col(f"{side}_action").shift(1).over("ticker")
    changed = answered.select((pl.col(f"{side}_action") != before).alias("flip"))["flip"]
    return _mean(changed.drop_nulls())


def agreement(rows: pl.DataFrame) -> float | None:
    """Share of rows both sides answered on which they answered the same."""
    both = rows.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    return _mean(both["active_action"] == both["shadow_action"])


def outcome_classes(returns: pl.Series, move: float) -> NDArray[np.int64]:
    """Index into DECISIONS of what would have been correct: above the move BUY, below minus it SELL, else HOLD."""
    values = returns.to_numpy()
    return np.where(values > move, 0, np.where(values < -move, 1, 2)).astype(np.int64)


def confusion(known: pl.DataFrame, side: str, move: float) -> dict[str, Any]:
    """Confusion matrix (rows: outcome, columns: decision), recall and precision a class, balanced accuracy."""
    truth = outcome_classes(known["forward_return"], move)
    said = known[f"{side}_action"].replace_strict({name: k for k, name in enumerate(DECISIONS)}, return_dtype=pl.Int64)
    matrix = np.zeros((3, 3), dtype=np.int64)
    np.add.at(matrix, (truth, said.to_numpy()), 1)
    hits = np.diag(matrix)
    recall = [_ratio(hits[k], matrix[k].sum()) for k in range(3)]
    precision = [_ratio(hits[k], matrix[:, k].sum()) for k in range(3)]
    seen = [value for value in recall if value is not None]
    return {
        "confusion": matrix.tolist(),
        "recall": dict(zip(DECISIONS, recall, strict=True)),
        "precision": dict(zip(DECISIONS, precision, strict=True)),
        "balanced_accuracy": float(np.mean(seen)) if seen else None,
    }


def probability_scores(known: pl.DataFrame, side: str, move: float, bins: int = 10) -> dict[str, Any]:
    """Brier score (sum over classes; Brier 1950), log loss, and the calibration curve of the confidence."""
    chances = known.select(f"{side}_p_{name.lower()}" for name in DECISIONS).drop_nulls()
    if len(chances) == 0 or len(chances) != len(known):
        return {"brier": None, "log_loss": None, "calibration": [], "calibration_error": None}
    p = chances.to_numpy().astype(np.float64)
    truth = outcome_classes(known["forward_return"], move)
    hot = np.eye(3)[truth]
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    curve = [
        {
            "confidence": float(confidence[place == k].mean()),
            "accuracy": float(right[place == k].mean()),
            "rows": int((place == k).sum()),
        }
        for k in range(bins)
        if (place == k).any()
    ]
    error = sum(point["rows"] * abs(point["confidence"] - point["accuracy"]) for point in curve) / len(p)
    return {
        "brier": float(((p - hot) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(np.clip(p[np.arange(len(p)), truth], 1e-12, 1.0)).mean()),
        "calibration": curve,
        "calibration_error": float(error),
    }


def equity(rows: pl.DataFrame, side: str, fee: float) -> dict[str, Any]:
    """Acting on the decisions: long on BUY, short on SELL, flat on HOLD, until the ticker's next decision.

    Tickers share the capital equally. A row without an answer keeps the position. Costs are `fee` a unit of turnover.
    """
    position = (
        pl.col(f"{side}_action").replace_strict({"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}, return_dtype=pl.Float64)
    )  # fmt: skip
    frame = rows.sort("ticker", "timestamp").with_columns(
        position.forward_fill().over("ticker").fill_null(0.0).alias("position")
    )
    change = (pl.col("price").shift(-1) / pl.col("price") - 1).over("ticker").fill_null(0.0)
    turn = (pl.col("position") - pl.col("position").shift(1).over("ticker").fill_null(0.0)).abs()
    frame = frame.with_columns(net=pl.col("position") * change - turn * fee, turn=turn, market=change)
    # An equal-weight portfolio: its return at a time is the mean of its tickers' returns.
    table = (
        frame.group_by("timestamp")
        .agg(pl.col("net").mean(), pl.col("market").mean(), pl.col("turn").mean())
        .sort("timestamp")
    )
    curve = np.cumprod(1 + table["net"].to_numpy()) if len(table) else np.ones(1)
    market = np.cumprod(1 + table["market"].to_numpy()) if len(table) else np.ones(1)
    return {
        "net_return": float(curve[-1] - 1),
        "buy_and_hold": float(market[-1] - 1),
        "max_drawdown": float((1 - curve / np.maximum.accumulate(np.maximum(curve, 1.0))).max()),
        "turnover": float(table["turn"].sum()) if len(table) else 0.0,
    }


def by_group(rows: pl.DataFrame, key: pl.Expr) -> dict[str, dict[str, Any]]:
    """The main numbers of both sides by ticker, month or regime."""
    found: dict[str, dict[str, Any]] = {}
    for (name,), part in rows.with_columns(key.alias("_key")).group_by("_key", maintain_order=True):
        entry: dict[str, Any] = {"rows": len(part)}
        for side in ("active", "shadow"):
            acting = part.filter(pl.col(f"{side}_acts").fill_null(value=False))
            entry[side] = {"signals": len(acting), "accuracy_signals": _mean(acting[f"{side}_correct"])}
        found[str(name)] = entry
    return dict(sorted(found.items()))


def _share(flags: pl.Series) -> float:
    return float(flags.sum()) / len(flags) if len(flags) else 0.0


def _mean(values: pl.Series) -> float | None:
    mean = values.cast(pl.Float64).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
