"""The plan's metrics and what belongs beside them, for one side of a scored journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts.metrics import CalibrationPoint, Equity, GroupMetrics, GroupSide, SideMetrics
from candletune.decisions import DECISIONS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CLASS_INDEX = {name: index for index, name in enumerate(DECISIONS)}
POSITION = {"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}


def side_metrics(rows: pl.DataFrame, side: str, *, move: float, fee: float) -> SideMetrics:
    """Everything about `active` or `shadow`.

    Args:
        rows: scored rows (see `outcomes.score_rows`), any order.
        side: `active` or `shadow`.
        move: the plan's 1 % as a fraction.
        fee: cost of changing the position by one, as a fraction of the price.
    """
    status = rows[f"{side}_status"]
    answered = rows.filter(pl.col(f"{side}_action").is_not_null())
    known = answered.filter(pl.col(f"{side}_correct").is_not_null())
    acting = known.filter(pl.col(f"{side}_acts"))
    decided = known[f"{side}_action"].replace_strict(CLASS_INDEX, return_dtype=pl.Int64).to_numpy()
    scores = class_scores(outcome_classes(known["forward_return"], move), decided)
    probabilities = probability_scores(known, side)
    return SideMetrics(
        rows=len(rows),
        pending=int(rows["forward_return"].is_null().sum()),
        status={name: int((status == name).sum()) for name in ("ok", "invalid", "skipped", "error")},
        coverage=_share(status == "ok"),
        shares={name: _share(answered[f"{side}_action"] == name) for name in DECISIONS},
        signals=len(acting),
        accuracy_signals=_mean(acting[f"{side}_correct"]),
        accuracy_all=_mean(known[f"{side}_correct"]),
        direction=_mean(acting[f"{side}_signed"] > 0),
        mean_signed_return=_mean(acting[f"{side}_signed"]),
        flip_rate=flip_rate(rows, side),
        confusion=tuple(tuple(row) for row in scores.confusion.tolist()),
        recall=dict(zip(DECISIONS, scores.recall, strict=True)),
        precision=dict(zip(DECISIONS, scores.precision, strict=True)),
        balanced_accuracy=scores.balanced_accuracy,
        brier=probabilities.brier,
        log_loss=probabilities.log_loss,
        calibration=probabilities.calibration,
        calibration_error=probabilities.calibration_error,
        calibration_chance=probabilities.calibration_chance,
        calibration_regimes=probabilities.regimes,
        equity=equity(rows, side, fee),
        latency_ms=_mean(rows[f"{side}_latency_ms"]),
    )


def flip_rate(rows: pl.DataFrame, side: str) -> float | None:
    """Share of consecutive answered decisions of the same ticker that differ; None without a pair."""
    answered = rows.filter(pl.col(f"{side}_action").is_not_null()).sort("ticker", "timestamp")
    before = pl.col(f"{side}_action").shift(1).over("ticker")
    changed = answered.select((pl.col(f"{side}_action") != before).alias("flip"))["flip"]
    return _mean(changed.drop_nulls())


def agreement(rows: pl.DataFrame) -> float | None:
    """Share of rows both sides answered on which they answered the same."""
    answered = rows.filter(pl.col("active_action").is_not_null() & pl.col("shadow_action").is_not_null())
    return _mean(answered["active_action"] == answered["shadow_action"])


def outcome_classes(returns: pl.Series, move: float) -> Ints:
    """Index into DECISIONS of what happened, as labels name it: above the move BUY, below minus it SELL, else HOLD.

    At exactly the move that is HOLD, though `outcomes.correct` calls no decision right then.
    """
    values = returns.to_numpy()
    return np.where(values > move, 0, np.where(values < -move, 1, 2)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Decisions against outcomes, by class in the order of DECISIONS; None where nothing would count.

    Attributes:
        confusion: rows are outcomes, columns decisions, (3, 3).
        balanced_accuracy: mean recall of the classes that occurred.
    """

    confusion: Ints
    recall: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    balanced_accuracy: float | None


def class_scores(outcomes: Ints, decisions: Ints) -> ClassScores:
    """Confusion, recall, precision and balanced accuracy of decisions (n,) against outcomes (n,)."""
    from sklearn.metrics import confusion_matrix

    # scikit-learn refuses an empty table with given labels.
    empty = np.zeros((3, 3), dtype=np.int64)
    matrix = confusion_matrix(outcomes, decisions, labels=[0, 1, 2]) if len(outcomes) else empty
    hits = np.diag(matrix)
    recall = tuple(_ratio(hits[k], matrix[k].sum()) for k in range(3))
    seen = [value for value in recall if value is not None]
    return ClassScores(
        confusion=matrix,
        recall=recall,
        precision=tuple(_ratio(hits[k], matrix[:, k].sum()) for k in range(3)),
        balanced_accuracy=float(np.mean(seen)) if seen else None,
    )


@dataclass(frozen=True, slots=True)
class ProbabilityScores:
    """How good probabilities are; see `SideMetrics`."""

    brier: float | None = None
    log_loss: float | None = None
    calibration: tuple[CalibrationPoint, ...] = ()
    calibration_error: float | None = None
    calibration_chance: float | None = None
    regimes: Mapping[str, float] = field(default_factory=dict)


def probability_scores(known: pl.DataFrame, side: str, bins: int = 10) -> ProbabilityScores:
    """Brier score (sum over classes; Brier 1950), log loss, and the calibration curve of the confidence.

    Against the class that the labels' own rule gives (`outcome`): that is what the probabilities are of. Held against
    the plan's 1 % instead, exact probabilities of a 2 % label are off by 0.2.

    Nothing is computed unless every row has probabilities that add up to one.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    if "outcome" not in known.columns:
        return ProbabilityScores()
    known = known.filter(pl.col("outcome").is_not_null())
    columns = known.select(f"{side}_p_{name.lower()}" for name in DECISIONS).drop_nulls()
    if len(columns) == 0 or len(columns) != len(known):
        return ProbabilityScores()
    p = columns.to_numpy().astype(np.float64)
    if not np.allclose(p.sum(axis=1), 1.0, atol=1e-3) or p.min() < 0:
        return ProbabilityScores()
    p = p / p.sum(axis=1, keepdims=True)  # written with few digits they may add up to 0.999999
    truth = known["outcome"].replace_strict(CLASS_INDEX, return_dtype=pl.Int64).to_numpy()
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    curve = calibration_curve(confidence, right, bins)
    parts = known["regime"].fill_null("unknown").to_numpy() if "regime" in known.columns else np.array([])
    return ProbabilityScores(
        brier=float(brier_score_loss(truth, p, labels=[0, 1, 2], scale_by_half=False)),
        log_loss=float(log_loss(truth, p, labels=[0, 1, 2])),
        calibration=curve,
        calibration_error=_calibration_error(curve),
        calibration_chance=_calibration_chance(curve),
        regimes={
            str(name): _calibration_error(calibration_curve(confidence[parts == name], right[parts == name], bins))
            for name in np.unique(parts)
        },
    )


def _calibration_error(curve: tuple[CalibrationPoint, ...]) -> float:
    """Mean distance of confidence and accuracy, bins weighed by their rows."""
    return float(sum(point.rows * abs(point.confidence - point.accuracy) for point in curve) / _rows(curve))


def _calibration_chance(curve: tuple[CalibrationPoint, ...]) -> float:
    """What exact probabilities would show on as many independent rows: a normal error is 0.8 of its size on average."""
    errors = (point.rows * (point.confidence * (1 - point.confidence) / point.rows) ** 0.5 for point in curve)
    return float((2 / np.pi) ** 0.5 * sum(errors) / _rows(curve))


def _rows(curve: tuple[CalibrationPoint, ...]) -> int:
    return sum(point.rows for point in curve)


def calibration_curve(confidence: Floats, right: NDArray[np.bool_], bins: int) -> tuple[CalibrationPoint, ...]:
    """Mean confidence and share right of each of `bins` equal bins that holds a row.

    scikit-learn's `calibration_curve` leaves out how many rows a bin has.
    """
    bin_index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return tuple(
        CalibrationPoint(
            confidence=float(confidence[bin_index == k].mean()),
            accuracy=float(right[bin_index == k].mean()),
            rows=int((bin_index == k).sum()),
        )
        for k in range(bins)
        if (bin_index == k).any()
    )


def portfolio_returns(rows: pl.DataFrame, side: str, fee: float) -> pl.DataFrame:
    """Acting on the decisions: long on BUY, short on SELL, flat on HOLD, until the ticker's next decision.

    Tickers share the capital equally, so the portfolio's return at a time is the mean of theirs. A row without an
    answer keeps the position. Costs are `fee` a unit of turnover.

    Returns:
        By time: `timestamp`, `net` (return after fees), `market` (of holding) and `turn` (turnover), fractions.
    """
    position = pl.col(f"{side}_action").replace_strict(POSITION, return_dtype=pl.Float64)
    frame = rows.sort("ticker", "timestamp").with_columns(
        position.forward_fill().over("ticker").fill_null(0.0).alias("position")
    )
    market = (pl.col("price").shift(-1) / pl.col("price") - 1).over("ticker").fill_null(0.0)
    turn = (pl.col("position") - pl.col("position").shift(1).over("ticker").fill_null(0.0)).abs()
    frame = frame.with_columns(net=pl.col("position") * market - turn * fee, turn=turn, market=market)
    return frame.group_by("timestamp").agg(pl.col("net", "market", "turn").mean()).sort("timestamp")


def equity(rows: pl.DataFrame, side: str, fee: float) -> Equity:
    """What became of the capital under `portfolio_returns`."""
    table = portfolio_returns(rows, side, fee)
    curve = np.cumprod(1 + table["net"].to_numpy()) if len(table) else np.ones(1)
    market = np.cumprod(1 + table["market"].to_numpy()) if len(table) else np.ones(1)
    return Equity(
        net_return=float(curve[-1] - 1),
        buy_and_hold=float(market[-1] - 1),
        max_drawdown=float((1 - curve / np.maximum.accumulate(np.maximum(curve, 1.0))).max()),
        turnover=float(table["turn"].sum()) if len(table) else 0.0,
    )


def by_group(rows: pl.DataFrame, key: pl.Expr) -> dict[str, GroupMetrics]:
    """The main numbers of both sides by ticker, month or regime."""
    groups = rows.with_columns(key.alias("_key")).group_by("_key", maintain_order=True)
    metrics = {
        str(name): GroupMetrics(rows=len(part), active=_group_side(part, "active"), shadow=_group_side(part, "shadow"))
        for (name,), part in groups
    }
    return dict(sorted(metrics.items()))


def _group_side(part: pl.DataFrame, side: str) -> GroupSide:
    acting = part.filter(pl.col(f"{side}_acts").fill_null(value=False))
    return GroupSide(signals=len(acting), accuracy_signals=_mean(acting[f"{side}_correct"]))


def _share(flags: pl.Series) -> float:
    return float(flags.sum()) / len(flags) if len(flags) else 0.0


def _mean(values: pl.Series) -> float | None:
    mean = values.cast(pl.Float64).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
