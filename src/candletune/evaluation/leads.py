"""The candidate's lead over each baseline on the same rows, paired in time."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts.metrics import BaselineMetrics, Interval
from candletune.config import EvaluateConfig
from candletune.decisions import DECISIONS
from candletune.evaluation.baselines import HOLD, SILENT, Ints
from candletune.evaluation.beaten import lead_p_value, with_adjusted
from candletune.evaluation.bounds import grid_of
from candletune.evaluation.metrics import class_scores, outcome_classes
from candletune.evaluation.outcomes import correct
from candletune.evaluation.statistics import Ratio, bootstrap_difference


def compare_baselines(
    rows: pl.DataFrame,
    actions: Mapping[str, Ints],
    limits: EvaluateConfig,
    *,
    block: float,
    seed: int,
    overlap: int = 0,
) -> dict[str, BaselineMetrics]:
    """Each baseline's metrics, the interval of its BUY/SELL accuracy, and the candidate's paired lead over it.

    Args:
        rows: in time order, with `timestamp`, `forward_return`, `shadow_acts` and `shadow_correct`.
        actions: indices into DECISIONS (or SILENT) by baseline, (n,) each.
        limits: move, resamples, confidence.
        block: mean length of a bootstrap block, in decision times.
        seed: of the bootstrap.
        overlap: later decision times whose windows share candles with one's.
    """
    time_index = rows["timestamp"].rle_id().to_numpy()
    acts, right = (rows[f"shadow_{name}"].fill_null(value=False).to_numpy() for name in ("acts", "correct"))
    truth = outcome_classes(rows["forward_return"], limits.move)
    bootstrap = partial(
        bootstrap_difference, block=block, resamples=limits.resamples, confidence=limits.confidence, seed=seed
    )
    times = rows["timestamp"].unique().sort()
    grid = grid_of(((times - times[0]) / timedelta(days=1)).to_numpy(), overlap)
    metrics = {}
    for name, chosen in actions.items():
        answered = chosen != SILENT
        candidate = _by_time(time_index, acts & answered, right & answered)
        own = _by_time(time_index, (chosen != HOLD) & answered, chosen == truth)
        metrics[name] = _scores(
            chosen[answered],
            rows["forward_return"].filter(pl.Series(answered)),
            limits.move,
            interval=bootstrap(own, None)[0],
            lead=bootstrap(candidate, own)[0],
        ).model_copy(update={"p_value": lead_p_value(candidate, own, grid)})
    return with_adjusted(metrics)


def _scores(actions: Ints, returns: pl.Series, move: float, *, interval: Interval, lead: Interval) -> BaselineMetrics:
    """Metrics of decisions (n,) against forward returns without nulls (n,)."""
    truth = outcome_classes(returns, move)
    names = pl.Series([DECISIONS[action] for action in actions], dtype=pl.String)
    scored = pl.DataFrame({"action": names, "change": returns})
    right = scored.select(correct(pl.col("action"), pl.col("change"), move)).to_series().to_numpy()
    acts = actions != HOLD
    signed = np.where(actions == 0, 1.0, -1.0) * returns.to_numpy()
    return BaselineMetrics(
        rows=len(actions),
        signals=int(acts.sum()),
        accuracy_signals=float(right[acts].mean()) if acts.any() else None,
        accuracy_all=float(right.mean()) if len(right) else None,
        balanced_accuracy=class_scores(truth, actions).balanced_accuracy,
        mean_signed_return=float(signed[acts].mean()) if acts.any() else None,
        interval=interval,
        lead=lead,
    )


def _by_time(time_index: NDArray[np.int64], acts: NDArray[np.bool_], right: NDArray[np.bool_]) -> Ratio:
    """Right BUY/SELL calls over all of them, by decision time (`time_index` counts them up)."""
    times = int(time_index[-1]) + 1
    return Ratio(
        np.bincount(time_index[acts & right], minlength=times).astype(np.float64),
        np.bincount(time_index[acts], minlength=times).astype(np.float64),
    )
