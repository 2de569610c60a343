"""Each baseline's metrics on the scored rows, and the candidate's lead over it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import CandidateRows, DatasetManifest
from candletune.artifacts.metrics import BaselineMetrics, Interval
from candletune.calibration import shares_of
from candletune.config import Config, EvaluateConfig
from candletune.dataset import load_pair, read_examples
from candletune.decisions import DECISIONS
from candletune.evaluation.baselines import HOLD, SILENT, Ints, Task, baseline_actions
from candletune.evaluation.metrics import CLASS_INDEX, class_scores, outcome_classes
from candletune.evaluation.outcomes import correct
from candletune.evaluation.statistics import Ratio, bootstrap_difference
from candletune.fields.columns import indicator_rows
from candletune.runs import RunFolder

UNTUNED = "untuned base"


def measure_baselines(config: Config, run: RunFolder, scored: pl.DataFrame, block: float) -> dict[str, BaselineMetrics]:
    """Every baseline on the scored rows that have an outcome and indicators.

    Args:
        config: names candles, limits and seed.
        run: whose dataset trained the candidate, and whose replay asked the untuned base.
        scored: see `outcomes.score_rows`, in time order.
        block: mean length of a bootstrap block, in decision times.
    """
    known = scored.filter(pl.col("forward_return").is_not_null())
    numbers = pl.concat([indicator_rows(load_pair(config, pair)) for pair in config.data.pairs])
    rows = known.select("timestamp", "ticker", "forward_return", "past_return", "shadow_acts", "shadow_correct").join(
        numbers,
        left_on=("timestamp", "ticker"),
        right_on=("decision_time", "asset"),
        how="inner",
        maintain_order="left",
    )
    if rows.is_empty():
        return {}
    train = read_examples(run).meta.filter(pl.col("split") == "train")
    classes = train["label"].cast(pl.String).replace_strict(CLASS_INDEX, return_dtype=pl.Int64)
    manifest = DatasetManifest.read(run.dataset_manifest)
    natural = shares_of(manifest.natural_prior)
    task = Task(
        rows,
        train,
        classes.to_numpy(),
        stands_for(train, manifest.candidates.by_month),
        threshold=config.labels.threshold,
        held_out=pl.read_parquet(run.natural_eval),
        natural=natural,
        calls=_calls(config, natural),
        seed=config.seed,
    )
    actions = baseline_actions(task)
    if config.evaluate.journal is None and run.untuned.exists():
        actions[UNTUNED] = _untuned_actions(rows, pl.read_parquet(run.untuned))
    return compare_baselines(rows, actions, config.evaluate, block=block, seed=config.seed)


def _calls(config: Config, natural: Sequence[float] | None) -> float | None:
    """The share of calls that the candidate is taught (see `candletune.training.policy`)."""
    if not config.train.policy_steps or natural is None:
        return None
    return sum(natural[:HOLD]) if config.train.call_share is None else config.train.call_share


def stands_for(train: pl.DataFrame, months: Mapping[str, CandidateRows]) -> NDArray[np.float64]:
    """How many candidate rows of its month and class each example stands for, (examples,).

    Args:
        train: `decision_time` and `label` of the examples.
        months: all rows that might have become examples, by month.
    """
    keys = list(zip(train["decision_time"].dt.strftime("%Y-%m"), train["label"].cast(pl.String), strict=True))
    drawn = Counter(keys)
    return np.array([months[key[0]].rows * months[key[0]].share(key[1]) / drawn[key] for key in keys])


def _untuned_actions(rows: pl.DataFrame, answers: pl.DataFrame) -> Ints:
    actions = rows.join(answers, on=("timestamp", "ticker"), how="left", maintain_order="left")["action"]
    return actions.replace_strict(CLASS_INDEX, return_dtype=pl.Int64).fill_null(SILENT).to_numpy()


def compare_baselines(
    rows: pl.DataFrame, actions: Mapping[str, Ints], limits: EvaluateConfig, *, block: float, seed: int
) -> dict[str, BaselineMetrics]:
    """Each baseline's metrics, the interval of its BUY/SELL accuracy, and the candidate's paired lead over it.

    Args:
        rows: in time order, with `timestamp`, `forward_return`, `shadow_acts` and `shadow_correct`.
        actions: indices into DECISIONS (or SILENT) by baseline, (n,) each.
        limits: move, resamples, confidence.
        block: mean length of a bootstrap block, in decision times.
        seed: of the bootstrap.
    """
    time_index = rows["timestamp"].rle_id().to_numpy()
    acts, right = (rows[f"shadow_{name}"].fill_null(value=False).to_numpy() for name in ("acts", "correct"))
    truth = outcome_classes(rows["forward_return"], limits.move)
    bootstrap = partial(
        bootstrap_difference, block=block, resamples=limits.resamples, confidence=limits.confidence, seed=seed
    )
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
        )
    return metrics


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


def not_clearly_beaten(baselines: Mapping[str, BaselineMetrics]) -> list[str]:
    """Baselines over which the candidate's lead is not clearly above zero."""
    return [
        name
        for name, entry in baselines.items()
        if entry.accuracy_signals is not None and not (entry.lead.low or 0.0) > 0
    ]


def _by_time(time_index: NDArray[np.int64], acts: NDArray[np.bool_], right: NDArray[np.bool_]) -> Ratio:
    """Right BUY/SELL calls over all of them, by decision time (`time_index` counts them up)."""
    times = int(time_index[-1]) + 1
    return Ratio(
        np.bincount(time_index[acts & right], minlength=times).astype(np.float64),
        np.bincount(time_index[acts], minlength=times).astype(np.float64),
    )
