"""How one error budget is spent over tries on the same candles: false promotions and power of several schedules.

    python bench/tries.py

A try is a gain in standard errors: normal, the tries of one stretch of candles correlated as models that share outcomes
are. Without a true gain, how often is at least one of ten promoted? With a true gain that a single test at the whole
budget would find in 80 % of cases, how often is it found as the first, second, .. tenth try?
"""

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from candletune.evaluation.budget import alpha_for

NORMAL = NormalDist()
BUDGET = 0.05
TRIES = 10
_SLOW: float = sum(1 / ((k + 1) * math.log(k + 1) ** 2) for k in range(1, 200_000)) + 1 / math.log(200_001)
SCHEDULES: dict[str, Callable[[int], float]] = {
    "a half, then k (k - 1)": lambda k: alpha_for(k, BUDGET),
    "k (k + 1)": lambda k: BUDGET / (k * (k + 1)),
    "k squared": lambda k: BUDGET * 6 / (math.pi * k) ** 2,
    "halves": lambda k: BUDGET / 2**k,
    "slow: k log^2 k": lambda k: BUDGET / _SLOW / ((k + 1) * math.log(k + 1) ** 2),
    "a tenth each (knows that ten come)": lambda _: BUDGET / TRIES,
    "no ledger": lambda _: BUDGET,
}


def gains(tests: int, correlation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gains in standard errors without a true one, (tests, TRIES)."""
    shared = rng.standard_normal((tests, 1))
    return math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * rng.standard_normal((tests, TRIES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=200_000)
    tests = parser.parse_args().tests
    rng = np.random.default_rng(17)
    drawn = {correlation: gains(tests, correlation, rng) for correlation in (0.0, 0.5, 0.9)}
    effect = NORMAL.inv_cdf(1 - BUDGET) + NORMAL.inv_cdf(0.8)
    places = (1, 2, 3, 5, 10)
    print("false promotions of ten tries at correlation 0, 0.5, 0.9 | found as try " + ", ".join(map(str, places)))
    bounds_by_name = {
        name: np.array([NORMAL.inv_cdf(1 - level(k)) for k in range(1, TRIES + 1)]) for name, level in SCHEDULES.items()
    }
    # The likelihood ratio of the true effect is the best e-value there is; it is believed from 1 / level on.
    levels = [alpha_for(k, BUDGET) for k in range(1, TRIES + 1)]
    bounds_by_name["e-values, as the first"] = np.array([(math.log(1 / a) + effect**2 / 2) / effect for a in levels])
    for name, bounds in bounds_by_name.items():
        wrong = [float((drawn[correlation] > bounds).any(axis=1).mean()) for correlation in drawn]
        power = [1 - NORMAL.cdf(bounds[k - 1] - effect) for k in places]
        mean = float(np.mean([1 - NORMAL.cdf(bound - effect) for bound in bounds]))
        print(f"{name:36}", *(f"{x:6.1%}" for x in wrong), " | ", *(f"{x:6.1%}" for x in power), f"  mean {mean:.1%}")


if __name__ == "__main__":
    main()
