"""What a language model must beat, on the same rows: simple rules, and classifiers on the same indicators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.decide.priors import correct_prior
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.fields.registry import FEATURES

Ints = NDArray[np.int64]
OVERSOLD, OVERBOUGHT = 30.0, 70.0
HOLD = DECISIONS.index("HOLD")
SILENT = -1
"""In place of an action: no answer."""


def baseline_actions(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    train_classes: Ints,
    *,
    threshold: float,
    natural: Sequence[float] | None,
    seed: int,
) -> dict[str, Ints]:
    """Decisions (indices into DECISIONS) of every baseline on `rows`.

    Args:
        rows: market rows by time and asset, with the fields' candle columns, `close` and `past_return`.
        train: the training examples' candle columns and `close` (balanced classes, as the candidate saw them).
        train_classes: their labels.
        threshold: of the labels, which `previous label` applies to the return before the decision.
        natural: base rates of the classes, to correct the classifiers as the candidate is corrected; None: as trained.
        seed: of the classifiers.
    """
    from threadpoolctl import threadpool_limits

    rsi = rows["rsi"].to_numpy()
    # A missing past compares false both ways, so it says HOLD.
    past = rows["past_return"].to_numpy()
    shares = np.bincount(train_classes, minlength=3) / max(1, len(train_classes))
    actions = {
        "majority class": np.full(len(rows), int(np.argmax(shares if natural is None else natural))),
        "previous label": np.where(past > threshold, 0, np.where(past < -threshold, 1, HOLD)),
        "RSI rule": np.where(rsi < OVERSOLD, 0, np.where(rsi > OVERBOUGHT, 1, HOLD)),
        "trend rule": np.where(rows["ema_gap_pct"].to_numpy() > 0, 0, 1),
    }
    x, y = _features(train), _features(rows)
    for name, model in _classifiers(seed).items():
        probabilities = np.zeros((len(rows), 3))
        # A few thousand rows: more threads only wait for each other, for half a minute on a busy machine.
        with threadpool_limits(limits=1):
            model.fit(x, train_classes)
            probabilities[:, model.classes_] = model.predict_proba(y)
        if natural is not None and (shares > 0).all():
            probabilities = correct_prior(probabilities, shares.tolist(), natural)
        actions[name] = probabilities.argmax(axis=1)
    return {name: indices.astype(np.int64) for name, indices in actions.items()}


def _features(frame: pl.DataFrame) -> NDArray[np.float64]:
    """The fields' features, shape (n, number of features).

    Raises:
        InputError: the frame lacks a column that a feature is made of.
    """
    try:
        values = frame.select(feature.value.alias(feature.name) for feature in FEATURES)
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(
            f"dataset: no column {str(error).split()[0]}, which the baselines read; run `candletune dataset --force`"
        ) from None
    return values.to_numpy().astype(np.float64)


def _classifiers(seed: int) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed)),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed),
    }
