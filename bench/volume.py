"""More coins, weights for overlapping windows, and a coin that training never saw: does any of it help?

    python bench/volume.py --out runs/volume
    python bench/volume.py --data user_data/data/binance --out runs/volume-real

A simulated market of 50 coins with one planted signal: all share one hidden regime (bull, flat, bear) whose drift is
in every coin's returns; volatility and noise are each coin's own. Gradient boosting stands in for the language model,
on the datasets that `candletune dataset` builds: of 1, 2, 10 and 40 coins, with 3,000 examples and with 12,000. It is
asked about the last third of the history, of coins that it was trained on and of ten that it never saw. With `--data`
the folder's own coins: each asked about by a model of all, of itself alone, and of the others, one left out after the
other.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import decision_rows
from candletune.evaluation.baseline_scores import task_of
from candletune.evaluation.baselines.base import answers
from candletune.evaluation.baselines.gradient_boosting import model
from candletune.evaluation.metrics import CLASS_INDEX, class_scores
from candletune.evaluation.outcomes import join_outcomes
from candletune.market.simulate import (
    DRIFT,
    DWELL,
    REGIMES,
    SIGMA,
    TAIL,
    VOLATILITY_MEMORY,
    VOLATILITY_OF_VOLATILITY,
    Market,
    to_candles,
)
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage

COINS, YEARS, SIGNAL = 50, 2.0, 1.0
START = datetime(2022, 1, 1, tzinfo=UTC)


def write_market(folder: Path, seed: int) -> list[str]:
    """Candle files of `COINS` coins under one regime; returns the pairs."""
    from scipy.signal import lfilter

    hours = round(YEARS * 365.25 * 24)
    rng = np.random.default_rng(seed)
    changes = np.concatenate([[0], np.flatnonzero(rng.random(hours) < 1 / DWELL), [hours]])
    regime = np.repeat(rng.integers(3, size=len(changes) - 1), np.diff(changes))
    futures = folder / "futures"
    futures.mkdir(parents=True, exist_ok=True)
    pairs = []
    for coin in range(COINS):
        own = np.random.default_rng((seed, coin))
        sigma = SIGMA * np.exp(lfilter([1], [1, -VOLATILITY_MEMORY], own.normal(0, VOLATILITY_OF_VOLATILITY, hours)))
        noise = own.standard_t(TAIL, hours) * np.sqrt((TAIL - 2) / TAIL)
        returns = SIGNAL * DRIFT * REGIMES[regime] + sigma * noise
        level = np.concatenate([[0.0], returns.cumsum()[:-1]])
        market = Market(returns, sigma, level, regime.astype(np.int8), anchor=np.zeros(hours), turn=hours)
        name = f"C{coin:02}"
        to_candles(market, start=START, price=100.0, seed=(seed, coin)).write_ipc(
            futures / f"{name}_USDT_USDT-1h-futures.feather", compression="lz4"
        )
        pairs.append(f"{name}/USDT:USDT")
    return pairs


def trained(folder: Path, data: Path, pairs: Sequence[str], *settings: str) -> tuple[Config, RunFolder]:
    """A dataset of those coins."""
    names = json.dumps(list(pairs))
    config = load_config(None, [f"run.folder={folder}", f"data.folder={data}", f"data.pairs={names}", *settings])
    run = RunFolder(config.run.folder)
    with run.lock():
        run_stage(stage("dataset"), config, run, SilentReporter())
    return config, run


def asked(config: Config, run: RunFolder, pairs: Sequence[str], start: datetime) -> dict[str, float]:
    """Balanced accuracy and log loss beyond the base rates, of a fit on the run's dataset, on the coins' later rows."""
    there = config.model_copy(update={"data": config.data.model_copy(update={"pairs": tuple(pairs)})})
    rows = decision_rows(there, start=start)
    rows = join_outcomes(rows.rename({"asset": "ticker", "decision_time": "timestamp"}), there)
    rows = rows.filter(pl.col("outcome").is_not_null()).gather_every(6)
    truth = rows["outcome"].replace_strict(CLASS_INDEX, return_dtype=pl.Int64).to_numpy()
    actions, chances = answers(model(config.seed), task_of(config, run, rows))
    shares = np.bincount(truth, minlength=3) / len(truth)
    loss = -np.log(np.clip(chances[np.arange(len(truth)), truth], 1e-9, None)).mean()
    return {
        "rows": len(rows),
        "balanced": float(class_scores(truth, actions).balanced_accuracy or 0.0),
        "beyond": float(loss + (shares[shares > 0] * np.log(shares[shares > 0])).sum()),
    }


def report(results: Path, name: str, found: dict[str, float], examples: int) -> None:
    """A row of the table, on disk at once."""
    line = {"name": name, "examples": examples, **found}
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    print(
        f"| {name} | {examples:,} | {found['rows']:,} | {found['balanced']:.1%} | {found['beyond']:+.4f} |", flush=True
    )


def examples_of(run: RunFolder) -> int:
    """Examples of its dataset."""
    return pl.read_parquet(run.meta, columns=["label"]).height


def simulated(out: Path, seed: int, results: Path) -> None:
    """One market."""
    data = out / f"market-{seed}"
    pairs = write_market(data, seed)
    start = datetime(2023, 5, 1, tzinfo=UTC)
    never = pairs[40:]
    for count in (1, 2, 10, 40):
        for per_class in (1000, 4000) if count >= 10 else (1000,):
            for unique in ("false", "true"):
                settings = (f"dataset.per_class={per_class}", "dataset.test_start=2023-05-01", f"seed={seed}")
                folder = out / f"{seed}-{count}-{per_class}-{unique}"
                config, run = trained(folder, data, pairs[:count], *settings, f"train.uniqueness={unique}")
                weighed = ", weighed" if unique == "true" else ""
                for which, names in (("its first", pairs[: min(count, 10)]), ("ten unseen", never)):
                    found = asked(config, run, names, start)
                    report(results, f"{count} coins{weighed}; {which}", found, examples_of(run))


def real(out: Path, data: Path, results: Path) -> None:
    """The folder's coins: each asked about by training on all, on the others, and on itself alone."""
    every = load_config(None, [f"data.folder={data}", "data.pairs=all"]).data.pairs
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for unique in ("false", "true"):
        for coin in every:
            others = [pair for pair in every if pair != coin]
            for name, pairs in (("all", list(every)), ("itself alone", [coin]), ("the others", others)):
                settings = ("dataset.test_start=2024-01-01", f"train.uniqueness={unique}")
                folder = out / f"real-{name.replace(' ', '-')}-{coin.partition('/')[0]}-{unique}"
                config, run = trained(folder, data, pairs, *settings)
                weighed = ", weighed" if unique == "true" else ""
                report(results, f"{coin}: {name}{weighed}", asked(config, run, [coin], start), examples_of(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of real candles, in place of the simulated market")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/volume"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "volume.jsonl"
    print("| trained on; asked about | examples | rows | balanced accuracy | log loss beyond base rates |")
    if options.data is not None:
        real(options.out, options.data, results)
    else:
        for seed in range(options.seeds):
            simulated(options.out, seed, results)


if __name__ == "__main__":
    main()
