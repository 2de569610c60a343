"""How soon is a drop of 10 points noticed after a promotion, and how often is one seen that is not there?

    python bench/drift.py --streams 500
    python bench/drift.py --streams 500 --candles DATA_FOLDER

A stream is a year of replay, from which the promoted model's level is certified, and a year behind the promotion:
hourly decisions, 12-hour outcomes that overlap, coins that move together (0.8), calls that are held for six hours on
average. Once nothing happens; once the model loses skill on day 100, so much that its accuracy on BUY and SELL falls by
10 points. Everything that is watched counts as an alarm: direction, log score and eight inputs a coin. `--candles`
takes random years of BTC and ETH candles in place of the simulated market.

Writes nothing; prints the table of docs/live.md.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from candletune.config import Config, EvaluateConfig
from candletune.evaluation.drift import LEAST_ALLOWED, Outside, alarm_limit, follow, level_of, outside_limit, series_of
from candletune.evaluation.times import Panel
from candletune.live.drift import chances
from decision import CHANGE, HORIZON, calls

Floats = NDArray[np.float64]
MOVE, THRESHOLD = EvaluateConfig().move, 0.02
REFERENCE, WATCHED, CHANGED, AFTER = 365, 365, 100, 200
SKILL, OTHER, FIELDS = 0.9, 0.3, 8
START = datetime(2024, 1, 1, tzinfo=UTC)


def simulated(rng: np.random.Generator, days: int, coins: int) -> Floats:
    """12-hour returns, (hours, coins): the market of bench/decision.py with any number of coins."""
    total = days * 24 + HORIZON
    log_sigma = lfilter([0.09], [1, -0.985], rng.normal(size=total + 500))[500:]
    common, own = (rng.standard_t(4, (total, n)) / np.sqrt(2) for n in (1, coins))
    steps = 0.0045 * np.exp(log_sigma)[:, None] * (np.sqrt(0.8) * common + np.sqrt(0.2) * own)
    return forward(steps)


def forward(steps: Floats) -> Floats:
    """12-hour returns of hourly log returns."""
    level = np.concatenate([np.zeros((1, steps.shape[1])), steps.cumsum(axis=0)])
    returns: Floats = np.expm1(level[HORIZON:-1] - level[: -HORIZON - 1])
    return returns


def read_steps(folder: Path) -> Floats:
    """Hourly log returns of BTC and ETH, (hours, 2)."""
    from candletune.market.candles import load_candles

    frames = [
        load_candles(folder, f"{name}/USDT:USDT", "1h").frame.select("date", name="close") for name in ("BTC", "ETH")
    ]
    both = frames[0].join(frames[1], on="date", suffix="_eth").sort("date")
    returns: Floats = np.diff(np.log(both.select("name", "name_eth").to_numpy()), axis=0)
    return returns


def years_of(steps: Floats, rng: np.random.Generator, days: int, _: int) -> Floats:
    """A random stretch of the candles."""
    hours = days * 24 + HORIZON
    start = int(rng.integers(len(steps) - hours))
    return forward(steps[start : start + hours])


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream gives: an alarm while nothing happened, and days to the one after the drop (None: before it)."""

    false: tuple[str, ...]
    days: float | None
    drop: float


def classes(returns: Floats) -> NDArray[np.int64]:
    """0 SELL, 1 HOLD, 2 BUY, by the labels' rule."""
    return (np.sign(returns) * (np.abs(returns) > THRESHOLD)).astype(np.int64) + 1


def scores(said: Floats, returns: Floats, judged: slice) -> Floats:
    """Log score of a model that gives, with each call, how often the outcomes followed it in the judged year."""
    outcome, call = classes(returns), said.astype(np.int64) + 1
    table = np.ones((3, 3))
    np.add.at(table, (call[judged], outcome[judged]), 1.0)
    table /= table.sum(axis=1, keepdims=True)
    found: Floats = np.log(table[call, outcome])
    return found


def panel(returns: Floats, said: Floats, gained: Floats, part: slice) -> Panel:
    """A part of a stream as the monitor's functions take it."""
    chosen = returns[part]
    stamps = tuple(START + timedelta(hours=hour) for hour in range(len(chosen)))
    elapsed = np.arange(len(chosen)) / 24
    return Panel(chosen, {"shadow": said[part]}, elapsed, HORIZON, log_score=gained[part], stamps=stamps)


def accuracy(said: Floats, returns: Floats) -> float:
    """The plan's, on BUY and SELL."""
    return float((said * returns > MOVE).sum() / np.abs(said).sum())


def alarms(returns: Floats, said: Floats, gained: Floats) -> dict[str, int]:
    """First alarm by what is watched, as a day behind the promotion."""
    judged, since = slice(0, REFERENCE * 24), slice(REFERENCE * 24, None)
    levels = series_of(panel(returns, said, gained, judged), "shadow", MOVE)
    lived = series_of(panel(returns, said, gained, since), "shadow", MOVE)
    found: dict[str, int] = {}
    for name, series in lived.items():
        level = level_of(levels[name])
        assert level is not None
        day = follow(series, level, alarm_limit(level, chances(Config())[name])).alarm
        if day is not None:
            found[name] = day
    return found


def input_alarm(rng: np.random.Generator, coins: int) -> bool:
    """Whether fields that wander as they did in training raise one within the year."""
    hours = (REFERENCE + WATCHED) * 24
    count = FIELDS * coins
    values = lfilter([1.0], [1, -0.97], rng.normal(size=(hours + 300, count)), axis=0)[300:]
    trained, lived = values[: REFERENCE * 24], values[REFERENCE * 24 :]
    low, high = np.quantile(trained, [0.001, 0.999], axis=0)
    shares = ((lived < low) | (lived > high)).reshape(-1, 24, count).mean(axis=1)
    limit = outside_limit(2 * count, chances(Config())["inputs"])
    return any(max(map(Outside(LEAST_ALLOWED).add, shares[:, field])) >= limit for field in range(count))


def stream(seed: int, source: Callable[[np.random.Generator, int, int], Floats], coins: int, lost: float) -> Stream:
    """One stream, with and without the drop."""
    rng = np.random.default_rng(seed)
    returns = source(rng, REFERENCE + CHANGED + AFTER + 65, coins)
    said, worse = calls(rng, returns, SKILL), calls(rng, returns, SKILL - lost)
    changed = (REFERENCE + CHANGED) * 24
    judged = slice(0, REFERENCE * 24)
    other = scores(calls(rng, returns, OTHER), returns, judged)
    own = scores(said, returns, judged)
    mixed = np.concatenate([said[:changed], worse[changed:]])
    false = [name for name, day in alarms(returns, said, own - other).items() if day < WATCHED]
    if input_alarm(rng, coins):
        false.append("inputs")
    after = alarms(returns, mixed, scores(mixed, returns, judged) - other)
    first = min(after.values(), default=10**6)
    # A day's last outcomes are known 12 hours behind it.
    days = None if first < CHANGED else first - CHANGED + 1.5
    return Stream(tuple(false), days, accuracy(said, returns) - accuracy(mixed[changed:], returns[changed:]))


def skill_of_points(source: Callable[[np.random.Generator, int, int], Floats], points: float) -> float:
    """How much skill makes so many points of accuracy."""
    rng = np.random.default_rng(0)
    gained = []
    for _ in range(120):
        returns = source(rng, 365, 2)
        gained.append(accuracy(calls(rng, returns, SKILL), returns) - accuracy(calls(rng, returns, 0.0), returns))
    return points * SKILL / float(np.mean(gained))


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--coins", default="2,3,4,10")
    parser.add_argument("--candles", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    source = simulated if given.candles is None else partial(years_of, read_steps(given.candles))
    coins = [2] if given.candles else [int(part) for part in given.coins.split(",")]
    lost = skill_of_points(source, 0.10)
    began = time.perf_counter()
    print(f"skill lost {lost:.3f} of {SKILL}; calls last {1 / CHANGE:.0f} hours; {given.streams} streams each")
    head = ("pairs", "drop, points", "false alarms in a year", "by", "median days", "middle half", "9 of 10 within")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for count in coins:
        with ProcessPoolExecutor(given.jobs) as pool:
            task = partial(stream, source=source, coins=count, lost=lost)
            found = list(pool.map(task, range(given.seed, given.seed + given.streams), chunksize=10))
        days = np.array([one.days for one in found if one.days is not None])
        by = {name: sum(name in one.false for one in found) for name in ("direction", "log score", "inputs")}
        quarters = np.quantile(days, [0.25, 0.5, 0.75, 0.9])
        print(
            f"| {count} | {100 * np.mean([one.drop for one in found]):.1f} "
            f"| {sum(bool(one.false) for one in found) / len(found):.1%} | {by} "
            f"| {quarters[1]:.1f} | {quarters[0]:.1f} to {quarters[2]:.1f} | {quarters[3]:.1f} |",
            flush=True,
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
