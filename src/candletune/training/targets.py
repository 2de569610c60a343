"""What an example asks of its decision token beside the label: soft shares, a weight by uniqueness, a utility."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import CandidateRows, DatasetManifest
from candletune.base.chat import DecisionTokens
from candletune.config import Config, TrainConfig
from candletune.dataset import example_uniqueness, example_volatility, stands_for
from candletune.decisions import DECISIONS, Decision
from candletune.training.examples import DecisionUtility, TokenizedExample, scale, soften

LEAST_VOLATILITY = 1e-9
"""A market that never moves has none; what it earns is capped anyway."""
Floats = NDArray[np.float64]


def with_targets(
    examples: Sequence[TokenizedExample],
    tokens: DecisionTokens,
    meta: pl.DataFrame,
    manifest: DatasetManifest,
    config: Config,
) -> list[TokenizedExample]:
    """The examples as `train.objective`, `train.soft_target` and `train.uniqueness` want them.

    Args:
        examples: tokenized, row for row of the sidecar.
        tokens: the decision tokens.
        meta: the sidecar.
        manifest: the dataset's.
        config: the settings.
    """
    found = list(examples)
    if config.train.soft_target:
        found = _softened(found, tokens, meta["forward_return"].to_list(), config)
    if config.train.objective == "utility":
        gains = action_gains(meta["forward_return"].to_numpy(), example_volatility(config, meta), config.train)
        found = with_utility(found, tokens, gains, hours_each(meta, manifest.candidates.by_month), config.train)
    if config.train.uniqueness:
        found = by_uniqueness(found, meta, config)
    return found


def in_order(shares: Mapping[Decision, float]) -> tuple[float, float, float]:
    """By decision to (BUY, SELL, HOLD); a class without examples counts as one in a million."""
    buy, sell, hold = (max(shares.get(name, 0.0), 1e-6) for name in DECISIONS)
    return buy, sell, hold


def class_indices(labels: Iterable[Decision]) -> list[int]:
    """Places in `DECISIONS`."""
    return [DECISIONS.index(label) for label in labels]


def action_gains(returns: Floats, volatility: Floats, config: TrainConfig) -> Floats:
    """What BUY, SELL and HOLD would have earned, (n, 3), in units of the volatility known at the decision.

    g = (side * return - fee) / volatility, capped on both sides, and g - risk / 2 * g^2: of returns whose mean is small
    against their spread the second term is the penalty on variance of mean-variance utility (Markowitz 1952). HOLD
    earns nothing.

    Args:
        returns: over the horizon, (n,), fractions.
        volatility: of the return over the horizon, known at the decision, (n,).
        config: `utility_fee`, `utility_cap`, `utility_risk`.
    """
    unit = np.maximum(volatility, LEAST_VOLATILITY)
    sides = np.stack([returns, -returns], axis=1)
    net = np.clip((sides - config.utility_fee) / unit[:, None], -config.utility_cap, config.utility_cap)
    calls = net - config.utility_risk / 2 * net**2
    gains: Floats = np.concatenate([calls, np.zeros((len(calls), 1))], axis=1)
    return gains


def with_utility(
    examples: Sequence[TokenizedExample],
    tokens: DecisionTokens,
    gains: Floats,
    weights: Floats,
    config: TrainConfig,
) -> list[TokenizedExample]:
    """The examples with what each action earns.

    Args:
        examples: n of them.
        tokens: the decision tokens.
        gains: see `action_gains`, (n, 3).
        weights: of the utilities, (n,).
        config: `utility_temperature`.
    """
    found = []
    for example, row, weight in zip(examples, gains.tolist(), weights.tolist(), strict=True):
        said = tokens.ids.index(example.ids[example.decision_index])
        hard = tuple(float(k == said) for k in range(len(tokens.ids)))
        aims = tuple(share for _, share in example.soft) or hard
        utility = DecisionUtility(tuple(tokens.ids), aims, tuple(row), weight, config.utility_temperature)
        found.append(replace(example, utility=utility))
    return found


def hours_each(meta: pl.DataFrame, months: Mapping[str, CandidateRows]) -> Floats:
    """How many hours each example stands for, against the mean example of its split, (n,).

    Examples are drawn by class and spread over the months: without these weights a mean over them is no mean over the
    hours, and what is earned at the rare large moves would count several times (Horvitz and Thompson 1952).
    """
    found = np.ones(len(meta))
    for split in ("train", "eval"):
        rows = (meta["split"] == split).to_numpy()
        if rows.any():
            each = stands_for(meta.filter(pl.Series(rows)), months)
            found[rows] = each / each.mean()
    return found


def _softened(
    examples: Sequence[TokenizedExample], tokens: DecisionTokens, returns: Sequence[float], config: Config
) -> list[TokenizedExample]:
    limit, share = config.labels.threshold, config.train.soft_target
    return [soften(example, tokens, value, limit, share) for example, value in zip(examples, returns, strict=True)]


def by_uniqueness(examples: Sequence[TokenizedExample], meta: pl.DataFrame, config: Config) -> list[TokenizedExample]:
    """Train examples weighed by their average uniqueness, of which the mean becomes 1; eval examples as they are."""
    unique = example_uniqueness(config, meta)
    train = (meta["split"] == "train").to_numpy()
    factors = np.where(train, unique / unique[train].mean(), 1.0)
    return [scale(example, factor) for example, factor in zip(examples, factors.tolist(), strict=True)]
