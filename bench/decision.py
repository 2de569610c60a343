"""How often does the decision rule promote a candidate that is no better, and how soon one that is?

    python bench/decision.py --tests 1000

Simulated A/B tests: hourly decisions on two coins whose prices are correlated random walks with clustered volatility,
12-hour windows that overlap, and models that hold a call for some hours. An incumbent without skill meets a candidate
whose calls follow the coming return with some probability, chosen so that its BUY/SELL accuracy is the wanted number of
points higher. The very functions of `candletune evaluate` judge them.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from candletune.artifacts.metrics import GroupMetrics, GroupSide, Metrics, SideMetrics
from candletune.config import EvaluateConfig
from candletune.evaluation.compare import compare_times
from candletune.evaluation.rule import PROMOTE, criteria_of, decide
from candletune.evaluation.times import Times

HORIZON, MOVE, COINS = 12, 0.01, 2
CHANGE = 1 / 6
"""Chance an hour that a model thinks anew: calls last six hours on average."""
HOLD = 0.4
Floats = NDArray[np.float64]
Model = TypeVar("Model", bound=BaseModel)
_ACTING = GroupSide(signals=1, accuracy_signals=None)
TICKERS = {name: GroupMetrics(rows=1, active=_ACTING, shadow=_ACTING) for name in ("BTC", "ETH")}


def forward_returns(rng: np.random.Generator, hours: int) -> Floats:
    """(hours, coins): 12-hour returns of two correlated walks with clustered volatility."""
    total = hours + HORIZON
    log_sigma = np.zeros(total)
    shocks = rng.normal(0, 0.1, total)
    for t in range(1, total):
        log_sigma[t] = 0.97 * log_sigma[t - 1] + shocks[t]
    common, own = rng.normal(size=(total, 1)), rng.normal(size=(total, COINS))
    returns = 0.005 * np.exp(log_sigma)[:, None] * (np.sqrt(0.8) * common + np.sqrt(0.2) * own)
    level = returns.cumsum(axis=0)
    found: Floats = level[HORIZON:] - level[:-HORIZON]
    return found


def calls(rng: np.random.Generator, forward: Floats, skill: float) -> NDArray[np.int64]:
    """(hours, coins) of 1 (BUY), -1 (SELL) and 0 (HOLD), each held until the model thinks anew."""
    hours = len(forward)
    guess = rng.choice([-1, 1], forward.shape)
    fresh_call = np.where(rng.random(forward.shape) < skill, np.sign(forward).astype(np.int64), guess)
    fresh_call = np.where(rng.random(forward.shape) < HOLD, 0, fresh_call)
    fresh = rng.random(forward.shape) < CHANGE
    fresh[0] = True
    rows = np.broadcast_to(np.arange(hours)[:, None], forward.shape)
    begun = np.maximum.accumulate(np.where(fresh, rows, 0), axis=0)
    return np.take_along_axis(fresh_call, begun, axis=0)


def accuracy(said: NDArray[np.int64], forward: Floats) -> float:
    """BUY/SELL accuracy by the plan's rule."""
    return float((said * forward > MOVE)[said != 0].mean())


def skill_for(gain: float) -> float:
    """The skill that lifts the accuracy by `gain`, by bisection on one long market."""
    if gain == 0:
        return 0.0
    forward = forward_returns(np.random.default_rng(99), 200_000)
    plain = accuracy(calls(np.random.default_rng(1), forward, 0.0), forward)
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        lifted = accuracy(calls(np.random.default_rng(1), forward, middle), forward) - plain
        low, high = (middle, high) if lifted < gain else (low, middle)
    return (low + high) / 2


def judge(forward: Floats, active: NDArray[np.int64], shadow: NDArray[np.int64], resamples: int) -> tuple[bool, bool]:
    """Whether the full rule promotes, and whether the plan's bare rule does."""
    sides = {"active": active, "shadow": shadow}
    signals = {side: (value != 0).sum(axis=1).astype(np.float64) for side, value in sides.items()}
    hits = {side: (value * forward > MOVE).sum(axis=1).astype(np.float64) for side, value in sides.items()}
    times = Times(signals, hits, (shadow * forward).sum(axis=1), HORIZON - 1, len(forward) / 24)
    limits = EvaluateConfig(resamples=resamples)
    # Only what the rule reads.
    metrics = partly(
        Metrics,
        active=_side(active),
        shadow=_side(shadow),
        comparison=compare_times(times, limits, 7, agreement=None, coverage=1.0),
        tickers=TICKERS,
        reviews=None,
    )
    full = decide(criteria_of(metrics, limits), metrics)[0] == PROMOTE
    plan = decide(criteria_of(metrics, limits.model_copy(update={"criteria": "plan"})), metrics)[0] == PROMOTE
    return full, plan


def partly(model: type[Model], **values: Any) -> Model:
    """A model with only these fields."""
    return model.model_construct(**values)


def _side(value: NDArray[np.int64]) -> SideMetrics:
    return partly(
        SideMetrics,
        flip_rate=float((value[1:] != value[:-1]).mean()),
        shares={name: float((value == k).mean()) for name, k in (("BUY", 1), ("SELL", -1), ("HOLD", 0))},
        status={"ok": value.size, "invalid": 0, "skipped": 0, "error": 0},
    )


def one(seed: int, skill: float, days: list[int], resamples: int) -> NDArray[np.bool_]:
    """(looks, 2): promoted by the full and the plan's rule at each of the days."""
    rng = np.random.default_rng(seed)
    forward = forward_returns(rng, max(days) * 24)
    active, shadow = calls(rng, forward, 0.0), calls(rng, forward, skill)
    return np.array([judge(forward[: d * 24], active[: d * 24], shadow[: d * 24], resamples) for d in days])


def run(pool: ProcessPoolExecutor, tests: int, skill: float, days: list[int], resamples: int, seed: int) -> Any:
    """(tests, looks, 2)."""
    task = partial(one, skill=skill, days=days, resamples=resamples)
    return np.array(list(pool.map(task, range(seed, seed + tests), chunksize=10)))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    start = time.monotonic()
    with ProcessPoolExecutor(given.jobs) as pool:
        daily = run(pool, given.tests, 0.0, list(range(1, 31)), given.resamples, 10_000)
        once, ever = daily[:, -1].mean(axis=0), daily.any(axis=1).mean(axis=0)
        print(f"{given.tests} tests without a true difference; share promoted wrongly:\n")
        print("| rule | looked at once, after 30 days | looked at every day for 30 days |")
        print("| --- | --- | --- |")
        for k, name in enumerate(("candletune", "the plan's bare rule")):
            print(f"| {name} | {once[k]:.1%} | {ever[k]:.1%} |")
        print("\nShare promoted when the candidate is better (candletune / the plan's bare rule):\n")
        print("| true gain | 1 week | 2 weeks | 4 weeks | 8 weeks |")
        print("| --- | --- | --- | --- | --- |")
        for points in (0.0, 0.03, 0.05, 0.10):
            found = run(pool, given.tests // 4, skill_for(points), [7, 14, 28, 56], given.resamples, 50_000)
            shares = found.mean(axis=0)
            cells = " | ".join(f"{full:.0%} / {plan:.0%}" for full, plan in shares)
            print(f"| {points * 100:.0f} points | {cells} |", flush=True)
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
