"""What a language model must beat, on the same rows: simple rules, and classifiers on the same indicators."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.decisions import DECISIONS
from candletune.evaluation.metrics import outcome_classes

FEATURES = ("rsi", "macd_hist", "ema_gap_pct", "bb_percent", "change_24h")
OVERSOLD, OVERBOUGHT = 30.0, 70.0


def baseline_actions(
    rows: pl.DataFrame, train: pl.DataFrame, train_classes: NDArray[np.int64], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Decisions (indices into DECISIONS) of every baseline on `rows`.

    Args:
        rows: market rows by time and asset, with FEATURES, `asset` and `known_return` (the 12 hours before).
        train: the training examples' FEATURES (balanced classes, as the candidate saw them).
        train_classes: their labels.
        seed: of the classifiers.
    """
    rsi = rows["rsi"].to_numpy()
    found = {
        "majority class": np.full(len(rows), int(np.bincount(train_classes, minlength=3).argmax())),
        "RSI rule": np.where(rsi < OVERSOLD, 0, np.where(rsi > OVERBOUGHT, 1, 2)),
        "trend rule": np.where(rows["ema_gap_pct"].to_numpy() > 0, 0, 1),
    }
    x, y = _features(train), _features(rows)
    for name, model in _classifiers(seed).items():
        found[name] = model.fit(x, train_classes).predict(y)
    return {name: actions.astype(np.int64) for name, actions in found.items()}


def baseline_metrics(actions: NDArray[np.int64], returns: pl.Series, move: float) -> dict[str, Any]:
    """Accuracy on BUY/SELL and over all, and balanced accuracy, of one baseline.

    Args:
        actions: indices into DECISIONS, shape (n,).
        returns: forward returns without nulls, (n,).
        move: the plan's 1 % as a fraction.
    """
    truth = outcome_classes(returns, move)
    right, acts = actions == truth, actions != DECISIONS.index("HOLD")
    recalls = [float(right[truth == k].mean()) for k in range(3) if (truth == k).any()]
    signed = np.where(actions == 0, 1.0, -1.0) * returns.to_numpy()
    return {
        "signals": int(acts.sum()),
        "accuracy_signals": float(right[acts].mean()) if acts.any() else None,
        "accuracy_all": float(right.mean()) if len(right) else None,
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
        "mean_signed_return": float(signed[acts].mean()) if acts.any() else None,
    }


def _features(frame: pl.DataFrame) -> NDArray[np.float64]:
    """FEATURES as (n, 5); the MACD histogram relative to the price, which differs between coins by orders."""
    relative = frame.with_columns(macd_hist=pl.col("macd_hist") / pl.col("close") * 100)
    return relative.select(FEATURES).to_numpy().astype(np.float64)


def _classifiers(seed: int) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed)),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, random_state=seed),
    }
