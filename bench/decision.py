"""How often does the decision rule promote a candidate that is no better, and one that is?

    python bench/decision.py --tests 500 --jobs 16 --out runs/decision
    python bench/decision.py --quick

A/B tests of a year, hourly decisions on two coins, 12-hour windows that overlap, and models that hold a call for some
hours. On a simulated market (stochastic volatility, Student's t, two correlated coins) and on BTC and ETH candles, of
which each test takes a random year. Every way of fooling the rule that we know of is a candidate; the very functions of
`candletune evaluate` judge it, once after 30 days, once after the year, at weekly looks, and as a registered replay.

Writes `decision.json` and prints the tables of docs/evaluation.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.signal import lfilter

from candletune.artifacts.metrics import GroupMetrics, GroupSide, Metrics, SideMetrics
from candletune.config import EvaluateConfig
from candletune.evaluation.budget import Level, alpha_for
from candletune.evaluation.compare import compare_times
from candletune.evaluation.rule import PROMOTE, criteria_of, decide
from candletune.evaluation.times import Panel, net_returns, sum_times

HORIZON, MOVE, HOURS = 12, 0.01, 365 * 24
CHANGE = 1 / 6
"""Chance an hour that a model thinks anew: calls last six hours on average."""
HOLD, WILD, REGIME_DAYS, TRIES = 0.4, 2 / 3, 25, 10
MONTH, HALF, YEAR = 30, 180, 365
WEEKS = (*range(28, YEAR, 7), YEAR)
LIMITS = EvaluateConfig()
BUDGET = 1 - LIMITS.confidence
Floats = NDArray[np.float64]
Model = TypeVar("Model", bound=BaseModel)
_ACTING = GroupSide(signals=1, accuracy_signals=None)
TICKERS = {name: GroupMetrics(rows=1, active=_ACTING, shadow=_ACTING) for name in ("BTC", "ETH")}


@dataclass(frozen=True, slots=True)
class Market:
    """A year of two coins.

    Attributes:
        forward: 12-hour returns, (hours, coins).
        wild: whether the volatility known at the hour is among the highest third, (hours, coins).
    """

    forward: Floats
    wild: NDArray[np.bool_]


Calls = NDArray[np.float64]
Pair = tuple[Calls, Calls]
"""Incumbent's and candidate's calls: 1 BUY, -1 SELL, 0 HOLD; (hours, coins)."""


def simulated(rng: np.random.Generator, drift: float = 0.0, *, same: bool = False) -> Market:
    """Stochastic volatility and Student's t (four degrees of freedom); `drift` is the year's, `same` one coin twice."""
    total = HOURS + HORIZON + 48
    log_sigma = lfilter([0.09], [1, -0.985], rng.normal(size=total + 500))[500:]
    common, own = (rng.standard_t(4, (total, n)) / np.sqrt(2) for n in (1, 2))
    noise = common + np.zeros(2) if same else np.sqrt(0.8) * common + np.sqrt(0.2) * own
    steps = 0.0045 * np.exp(log_sigma)[:, None] * noise + np.log1p(drift) / HOURS
    return _market(steps)


def real(rng: np.random.Generator, steps: Floats, *, bull: bool = False, same: bool = False) -> Market:
    """A random year of the candles; `bull`: one in which holding both gained at least half."""
    total = HOURS + HORIZON + 48
    starts = np.arange(len(steps) - total)
    if bull:
        level = np.concatenate([np.zeros((1, 2)), steps.cumsum(axis=0)])
        starts = starts[(level[starts + total] - level[starts]).mean(axis=1) > np.log(1.5)]
    start = int(rng.choice(starts))
    chosen = steps[start : start + total]
    return _market(chosen[:, [0, 0]] if same else chosen)


def _market(steps: Floats) -> Market:
    """From hourly log returns of 48 hours before, the year, and the last window."""
    squares = np.concatenate([np.zeros((1, 2)), (steps**2).cumsum(axis=0)])
    volatility = np.sqrt(squares[48 : 48 + HOURS] - squares[:HOURS])
    level = np.concatenate([np.zeros((1, 2)), steps.cumsum(axis=0)])[48:]
    forward = np.expm1(level[HORIZON : HORIZON + HOURS] - level[:HOURS])
    return Market(forward, volatility > np.quantile(volatility, WILD, axis=0))


def calls(rng: np.random.Generator, forward: Floats, skill: Floats | float, hold: float = HOLD) -> Calls:
    """Calls that follow the coming return with a chance of `skill` (against it where negative), each held for hours."""
    guess = rng.choice([-1.0, 1.0], forward.shape)
    skills = np.broadcast_to(np.asarray(skill, dtype=np.float64).reshape(-1, 1), forward.shape)
    knows = rng.random(forward.shape) < np.abs(skills)
    said = np.where(knows, np.sign(skills) * np.sign(forward), guess)
    return held(rng, np.where(rng.random(forward.shape) < hold, 0.0, said))


def held(rng: np.random.Generator, said: Calls) -> Calls:
    """Each call is held until the model thinks anew."""
    fresh = rng.random(said.shape) < CHANGE
    fresh[0] = True
    begun = np.maximum.accumulate(np.where(fresh, np.arange(len(said))[:, None], 0), axis=0)
    return np.take_along_axis(said, begun, axis=0)


def equal(rng: np.random.Generator, market: Market) -> Pair:
    """Both know something, and the same amount."""
    return calls(rng, market.forward, 0.3), calls(rng, market.forward, 0.3)


def at_random(rng: np.random.Generator, market: Market) -> Pair:
    """Neither knows anything."""
    return calls(rng, market.forward, 0.0), calls(rng, market.forward, 0.0)


def wild_hours(rng: np.random.Generator, market: Market, long: float = 0.5) -> Pair:
    """The candidate calls in wild hours only, and says BUY in a share `long` of its calls, whatever comes."""
    said = np.where(rng.random(market.forward.shape) < long, 1.0, -1.0)
    return calls(rng, market.forward, 0.0), held(rng, said) * market.wild


def regimes(rng: np.random.Generator, market: Market) -> Pair:
    """The candidate's skill turns into its opposite after 25 days on average."""
    lengths = np.maximum(1, rng.exponential(REGIME_DAYS * 24, 4 * YEAR // REGIME_DAYS + 40).astype(int))
    sign = np.repeat(rng.choice([-1, 1]) * (-1.0) ** np.arange(len(lengths)), lengths)[:HOURS]
    return calls(rng, market.forward, 0.0), calls(rng, market.forward, 0.5 * sign)


def silent(rng: np.random.Generator, market: Market) -> Pair:
    """The incumbent says BUY or SELL in one of two hundred hours; the candidate knows nothing."""
    return calls(rng, market.forward, 0.0, hold=0.995), calls(rng, market.forward, 0.0)


def copies(rng: np.random.Generator, market: Market) -> Pair:
    """The candidate is the incumbent but for 2 % of its hours."""
    mine = calls(rng, market.forward, 0.3)
    other = held(rng, np.where(rng.random(mine.shape) < 0.02, rng.choice([-1.0, 0.0, 1.0], mine.shape), np.nan))
    return mine, np.where(np.isnan(other), mine, other)


def costs(rng: np.random.Generator, market: Market, skill: float = 0.1) -> Pair:
    """The incumbent never acts; what the candidate earns pays its fees and no more."""
    return np.zeros_like(market.forward), calls(rng, market.forward, skill)


def better(rng: np.random.Generator, market: Market, skill: float) -> Pair:
    """The candidate is better."""
    return calls(rng, market.forward, 0.0), calls(rng, market.forward, skill)


@dataclass(frozen=True, slots=True)
class Look:
    """What the rule said at a look."""

    promoted: bool
    covered: bool
    failed: tuple[str, ...]


def look(market: Market, pair: Pair, days: int, level: Level | None = None, truth: float = 0.0) -> Look:
    """Judge the first `days` of a test; `covered`: the gain's interval holds the `truth`."""
    hours = days * 24
    active, shadow = (said[:hours] for said in pair)
    panel = Panel(market.forward[:hours], {"active": active, "shadow": shadow}, np.arange(hours) / 24.0, float(HORIZON))
    # Only what the rule reads.
    metrics = partly(
        Metrics,
        active=_side(active),
        shadow=_side(shadow),
        comparison=compare_times(sum_times(panel, LIMITS), LIMITS, level, agreement=None, coverage=1.0),
        tickers=TICKERS,
        reviews=None,
    )
    criteria = criteria_of(metrics, LIMITS)
    bounds = metrics.comparison.accuracy_signals.bounds
    return Look(
        decide(criteria, metrics)[0] == PROMOTE,
        bounds is not None and bounds[0] <= truth <= bounds[1],
        tuple(item.name for item in criteria if item.decides and item.passed is False),
    )


def partly(model: type[Model], **values: Any) -> Model:
    """A model with only these fields."""
    return model.model_construct(**values)


def _side(said: Calls) -> SideMetrics:
    return partly(
        SideMetrics,
        flip_rate=float((said[1:] != said[:-1]).mean()),
        shares={name: float((said == k).mean()) for name, k in (("BUY", 1), ("SELL", -1), ("HOLD", 0))},
        status={"ok": said.size, "invalid": 0, "skipped": 0, "error": 0},
    )


NULLS: dict[str, Callable[[np.random.Generator, Market], Pair]] = {
    "equal skill": equal,
    "calls at random": at_random,
    "wild hours": wild_hours,
    "wild hours, leaning long, bull year": partial(wild_hours, long=0.8),
    "regimes of 25 days": regimes,
    "near-silent incumbent": silent,
    "copies": copies,
    "identical coins": at_random,
    "edge equal to its costs": costs,
}
"""Every null and its candidate; `costs` gets its skill from `fitted`."""
WANTED = {"regimes of 25 days": 0.08}
ALL_WANTED, COVERAGE = 0.05, (0.935, 0.965)
POWER = {0.03: 0.5, 0.05: 0.8, 0.10: None}
TRIED = ("equal skill", "wild hours", "wild hours, leaning long, bull year", "regimes of 25 days")


@dataclass(frozen=True, slots=True)
class Source:
    """Where markets come from; `steps` are the candles' hourly log returns, None: simulated."""

    name: str
    steps: Floats | None

    def draw(self, rng: np.random.Generator, null: str) -> Market:
        """A market as the null wants it."""
        bull, same = "bull" in null, null == "identical coins"
        if self.steps is None:
            return simulated(rng, drift=1.0 if bull else 0.0, same=same)
        return real(rng, self.steps, bull=bull, same=same)


def candles(folder: Path) -> Source:
    """BTC and ETH hourly candles, over the hours that both have; or their hourly log returns in a .npy file."""
    if folder.suffix == ".npy":
        return Source("BTC and ETH", np.load(folder))
    from candletune.market.candles import load_candles

    pairs = [load_candles(folder, f"{name}/USDT:USDT", "1h").frame.select("date", name="close") for name in TICKERS]
    both = pairs[0].join(pairs[1], on="date", suffix="_other").sort("date")
    closes = both.select("name", "name_other").to_numpy()
    return Source("BTC and ETH", np.diff(np.log(closes), axis=0))


def fitted(source: Source) -> dict[str, float]:
    """The skill that lifts the accuracy by each gain, and the one whose edge equals its costs; by bisection."""
    markets = [source.draw(np.random.default_rng(900 + seed), "") for seed in range(12)]
    forward = np.concatenate([market.forward for market in markets])

    def accuracy(said: Calls) -> float:
        return float((said * forward > MOVE)[said != 0].mean())

    def earned(said: Calls) -> float:
        return float(net_returns(said, forward, HORIZON - 1, HORIZON, LIMITS).mean())

    def drawn(skill: float) -> Calls:
        return calls(np.random.default_rng(1), forward, skill)

    plain = accuracy(drawn(0.0))

    def lacking(skill: float, gain: float) -> float:
        return accuracy(drawn(skill)) - plain - gain

    found = {f"{gain:g}": _bisect(partial(lacking, gain=gain)) for gain in POWER}
    return found | {"costs": _bisect(lambda skill: earned(drawn(skill)))}


def _bisect(short: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if short(middle) < 0 else (low, middle)
    return (low + high) / 2


def null_test(seed: int, source: Source, null: str, skill: float) -> list[bool]:
    """Promoted after a month, after the year, at any weekly look; whether both intervals held the truth; registered."""
    rng = np.random.default_rng(seed)
    market = source.draw(rng, null)
    candidate = partial(costs, skill=skill) if null == "edge equal to its costs" else NULLS[null]
    pair = candidate(rng, market)
    month = look(market, pair, MONTH)
    weekly = [look(market, pair, days) for days in WEEKS]
    return [
        month.promoted,
        weekly[-1].promoted,
        any(item.promoted for item in weekly),
        month.covered,
        weekly[-1].covered,
        *registered(market, pair),
    ]


def registered(market: Market, pair: Pair) -> list[bool]:
    """Promoted as a registered replay, on a first try's budget, of half a year and of the year."""
    level = Level(alpha_for(1, BUDGET), one_look=True)
    return [look(market, pair, days, level).promoted for days in (HALF, YEAR)]


def tries_test(seed: int, source: Source, null: str) -> list[bool]:
    """Whether the best of ten candidates is promoted on one replay of a month, and of a year, from one error budget."""
    rng = np.random.default_rng(seed)
    market = source.draw(rng, null)
    pairs = [NULLS[null](rng, market) for _ in range(TRIES)]
    incumbent = pairs[0][0]
    return [
        any(
            look(market, (incumbent, pair[1]), days, Level(alpha_for(k, BUDGET))).promoted
            for k, pair in enumerate(pairs, start=1)
        )
        for days in (MONTH, YEAR)
    ]


def power_test(seed: int, source: Source, gain: float, skill: float) -> list[bool]:
    """Promoted after 90, 180 and 365 days on the whole budget, after the year on a first try; coverage; registered."""
    rng = np.random.default_rng(seed)
    market = source.draw(rng, "")
    pair = better(rng, market, skill)
    looks = [look(market, pair, days, truth=gain) for days in (90, HALF, YEAR)]
    return [
        *(item.promoted for item in looks),
        look(market, pair, YEAR, Level(alpha_for(1, BUDGET))).promoted,
        looks[-1].covered,
        *registered(market, pair),
    ]


def shares(pool: ProcessPoolExecutor, task: Callable[[int], list[bool]], seeds: Iterable[int]) -> list[float]:
    """Mean of each answer over the tests."""
    return [float(value) for value in np.mean(list(pool.map(task, seeds, chunksize=5)), axis=0)]


def run(pool: ProcessPoolExecutor, source: Source, tests: int, only: str) -> dict[str, Any]:
    """Every cell on one kind of market."""
    skills, seeds = fitted(source), range(10_000, 10_000 + tests)
    found: dict[str, Any] = {"skills": skills, "nulls": {}, "tries": {}, "power": {}}
    for null in (name for name in NULLS if only in name):
        task = partial(null_test, source=source, null=null, skill=skills["costs"])
        found["nulls"][null] = shares(pool, task, seeds)
        print(f"{source.name}: {null}: {found['nulls'][null]}", flush=True)
    for null in (name for name in TRIED if only in name):
        found["tries"][null] = shares(pool, partial(tries_test, source=source, null=null), seeds)
        print(f"{source.name}: best of {TRIES}, {null}: {found['tries'][null]}", flush=True)
    for gain in POWER if only in "power" else ():
        task = partial(power_test, source=source, gain=gain, skill=skills[f"{gain:g}"])
        found["power"][f"{gain:g}"] = shares(pool, task, seeds)
        print(f"{source.name}: {gain:g} better: {found['power'][f'{gain:g}']}", flush=True)
    return found


def tables(found: dict[str, Any]) -> str:
    """The results as docs/evaluation.md shows them."""
    names = list(found)
    lines = [
        "| without a true gain | " + " | ".join(f"{name}: 30 days | a year | a year of weekly looks" for name in names)
    ]
    lines[0] += " | wanted |"
    lines.append("| --- " * (2 + 3 * len(names)) + "|")
    for null in found[names[0]]["nulls"]:
        cells = [f"{value:.1%}" for name in names for value in found[name]["nulls"][null][:3]]
        lines.append(f"| {null} | {' | '.join(cells)} | {WANTED.get(null, ALL_WANTED):.0%} |")
    lines += ["", "| best of ten | " + " | ".join(f"{name}: 30 days | a year" for name in names) + " | wanted |"]
    lines.append("| --- " * (2 + 2 * len(names)) + "|")
    for null in found[names[0]]["tries"]:
        cells = [f"{value:.1%}" for name in names for value in found[name]["tries"][null]]
        lines.append(f"| {null} | {' | '.join(cells)} | {ALL_WANTED:.0%} |")
    heads = "90 days | 180 days | a year | a year, first try"
    lines += ["", "| true gain | " + " | ".join(f"{name}: {heads}" for name in names) + " | wanted |"]
    lines.append("| --- " * (2 + 4 * len(names)) + "|")
    for gain in found[names[0]]["power"]:
        cells = [f"{value:.0%}" for name in names for value in found[name]["power"][gain][:4]]
        wanted = "" if (share := POWER[float(gain)]) is None else f"{share:.0%}"
        lines.append(f"| {float(gain) * 100:g} points | {' | '.join(cells)} | {wanted} |")
    heads = "half a year | a year"
    lines += ["", "| registered, first try | " + " | ".join(f"{name}: {heads}" for name in names) + " |"]
    lines.append("| --- " * (1 + 2 * len(names)) + "|")
    for kind in ("nulls", "power"):
        for cell in found[names[0]][kind]:
            cells = [f"{value:.1%}" for name in names for value in found[name][kind][cell][5:7]]
            lines.append(f"| {cell} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the grid, write it, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="20 tests a cell")
    parser.add_argument("--only", default="", help="the cells whose name holds this")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="candles, or a .npy; missing: simulated only"
    )
    parser.add_argument("--market", choices=["both", "simulated", "real"], default="both")
    parser.add_argument("--out", type=Path, default=Path("runs/decision"))
    given = parser.parse_args()
    start = time.monotonic()
    sources = [] if given.market == "real" else [Source("simulated", None)]
    if given.market != "simulated" and given.data.exists():
        sources.append(candles(given.data))
    tests = 20 if given.quick else given.tests
    with ProcessPoolExecutor(given.jobs) as pool:
        found = {source.name: run(pool, source, tests, given.only) for source in sources}
    given.out.mkdir(parents=True, exist_ok=True)
    seconds = time.monotonic() - start
    record = {"tests": tests, "seconds": round(seconds), "limits": LIMITS.model_dump(mode="json"), "found": found}
    (given.out / "decision.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{tests} tests a cell, {seconds:.0f} s\n\n{tables(found)}")


if __name__ == "__main__":
    main()
