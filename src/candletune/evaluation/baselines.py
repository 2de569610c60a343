"""What a language model must beat, on the same rows: simple rules, and classifiers on the same indicators."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.config import EvaluateConfig
from candletune.decide.priors import correct_prior
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.evaluation.metrics import outcome_classes
from candletune.evaluation.statistics import Ratio, bootstrap_difference
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
        natural: class shares in life, to correct the classifiers as the candidate is corrected; None: as trained.
        seed: of the classifiers.
    """
    from threadpoolctl import threadpool_limits

    rsi = rows["rsi"].to_numpy()
    # A missing past compares false both ways, so it says HOLD.
    past = rows["past_return"].to_numpy()
    shares = np.bincount(train_classes, minlength=3) / max(1, len(train_classes))
    found = {
        "majority class": np.full(len(rows), int(np.argmax(shares if natural is None else natural))),
        "previous label": np.where(past > threshold, 0, np.where(past < -threshold, 1, HOLD)),
        "RSI rule": np.where(rsi < OVERSOLD, 0, np.where(rsi > OVERBOUGHT, 1, HOLD)),
        "trend rule": np.where(rows["ema_gap_pct"].to_numpy() > 0, 0, 1),
    }
    x, y = _features(train), _features(rows)
    for name, model in _classifiers(seed).items():
        chances = np.zeros((len(rows), 3))
        # A few thousand rows: more threads only wait for each other, for half a minute on a busy machine.
        with threadpool_limits(limits=1):
            model.fit(x, train_classes)
            chances[:, model.classes_] = model.predict_proba(y)
        if natural is not None and (shares > 0).all():
            chances = correct_prior(chances, shares.tolist(), natural)
        found[name] = chances.argmax(axis=1)
    return {name: actions.astype(np.int64) for name, actions in found.items()}


def baseline_metrics(actions: Ints, returns: pl.Series, move: float) -> dict[str, Any]:
    """Accuracy on BUY/SELL and over all, and balanced accuracy, of one baseline.

    Args:
        actions: indices into DECISIONS, or SILENT, shape (n,).
        returns: forward returns without nulls, (n,).
        move: the plan's 1 % as a fraction.
    """
    said = actions != SILENT
    actions, returns = actions[said], returns.filter(pl.Series(said))
    truth = outcome_classes(returns, move)
    right, acts = actions == truth, actions != HOLD
    recalls = [float(right[truth == k].mean()) for k in range(3) if (truth == k).any()]
    signed = np.where(actions == 0, 1.0, -1.0) * returns.to_numpy()
    return {
        "rows": len(actions),
        "signals": int(acts.sum()),
        "accuracy_signals": float(right[acts].mean()) if acts.any() else None,
        "accuracy_all": float(right.mean()) if len(right) else None,
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
        "mean_signed_return": float(signed[acts].mean()) if acts.any() else None,
    }


def contests(
    rows: pl.DataFrame, said: Mapping[str, Ints], limits: EvaluateConfig, *, block: float, seed: int
) -> dict[str, Any]:
    """Each baseline's metrics, the interval of its BUY/SELL accuracy, and the candidate's lead over it.

    Args:
        rows: in time order, with `timestamp`, `forward_return`, `shadow_acts` and `shadow_correct`.
        said: actions by name, (n,) each.
        limits: move, resamples, confidence.
        block: mean length of a bootstrap block, in decision times.
        seed: of the bootstrap.
    """
    place = rows["timestamp"].rle_id().to_numpy()
    returns = rows["forward_return"]
    acts, right = (rows[f"shadow_{name}"].fill_null(value=False).to_numpy() for name in ("acts", "correct"))
    truth = outcome_classes(returns, limits.move)
    settings: dict[str, Any] = {
        "block": block,
        "resamples": limits.resamples,
        "confidence": limits.confidence,
        "seed": seed,
    }
    found = {}
    for name, actions in said.items():
        entry = baseline_metrics(actions, returns, limits.move)
        answered = actions != SILENT
        candidate = _by_time(place, acts & answered, right & answered)
        own = _by_time(place, (actions != HOLD) & answered, actions == truth)
        entry["interval"] = asdict(bootstrap_difference(own, None, **settings)[0])
        entry["lead"] = asdict(bootstrap_difference(candidate, own, **settings)[0])
        found[name] = entry
    return found


def unbeaten(baselines: Mapping[str, Any]) -> list[str]:
    """Baselines over which the candidate's lead is not clearly above zero."""
    return [
        name
        for name, entry in baselines.items()
        if entry["accuracy_signals"] is not None and not (entry["lead"]["low"] or 0.0) > 0
    ]


def _by_time(place: NDArray[np.int64], acts: NDArray[np.bool_], right: NDArray[np.bool_]) -> Ratio:
    """Right BUY/SELL calls over all of them, by decision time (`place` counts them up)."""
    times = int(place[-1]) + 1
    return Ratio(
        np.bincount(place[acts & right], minlength=times).astype(np.float64),
        np.bincount(place[acts], minlength=times).astype(np.float64),
    )


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
