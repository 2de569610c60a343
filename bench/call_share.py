#!/usr/bin/env python3
"""How often does a classifier act after it was asked to act on a share of the hours? The market decides that too.

    python bench/call_share.py --data user_data/data/binance --share 0.25

For every quarter of the candles a dataset is built that ends there, boosting is trained on its examples, and its
log-odds are shifted until it calls on the wanted share of the held-out rows before the quarter, as `train.call_share`
is taught to an adapter. Then it is asked about every hour of the following quarter and year. Prints the shares of calls
there, also with the shift fitted on the hours of the year before, of two years, and of everything before; and what 500
held-out rows in place of all leave to chance. `--set labels.method=volatility` asks the same of labels that move with
the market. Boosting stands in for a model because it is trained in a second; what it reads and how its share is fitted
are the same.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.calibration import Calibration, call_offset, call_share
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import load_pair
from candletune.evaluation.baseline_scores import task_of
from candletune.evaluation.baselines.base import probabilities
from candletune.evaluation.baselines.gradient_boosting import model
from candletune.fields.columns import indicator_rows
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

QUARTER, YEAR = timedelta(days=91), timedelta(days=365)
HELD_OUT, FEW, DRAWS = 4000, 500, 40
FITTED = {"the year before": 365, "two years": 730, "everything": 10_000}
"""Other rows to fit the shift on: days before the quarter."""
Floats = NDArray[np.float64]


def shifted(probabilities: Floats, shift: float) -> float:
    """Share of calls after `shift` log-odds from HOLD to both calls."""
    return call_share(Calibration(offsets=(shift, shift, 0.0)).apply(probabilities))


def quarters(config: Config, first: datetime) -> Iterator[datetime]:
    """The quarters that begin from `first` on, as long as there are candles for one."""
    last = min(load_pair(config, pair).frame["date"].max() for pair in config.data.pairs)  # type: ignore[type-var]
    start = first
    while start + QUARTER <= last:  # type: ignore[operator]
        yield start
        month = start.month + 3
        start = start.replace(year=start.year + (month > 12), month=(month - 1) % 12 + 1)


def measure(config: Config, run: RunFolder, start: datetime, wanted: float) -> dict[str, Any]:
    """Shares of calls after `start`, in the quarter and the year (None without its candles), by what was fitted on."""
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"test_start": start})})
    config = prepare(config, run, SilentReporter())
    run_stage(stage("dataset"), config, run, SilentReporter())
    hours = pl.concat([indicator_rows(load_pair(config, pair)) for pair in config.data.pairs])
    hours = hours.with_columns(past_return=pl.lit(0.0))  # the baselines' previous label, which boosting does not read
    rows = hours.filter(pl.col("decision_time").is_between(start, start + YEAR, closed="left"))
    task = task_of(config, run, rows)
    asked, held_out = probabilities(model(task.seed), task)
    shifts = {"held-out rows": call_offset(held_out, wanted)}
    for name, days in FITTED.items():
        # An outcome is known a horizon later; the shift needs none, but a day is left out all the same.
        before = hours.filter(pl.col("decision_time").is_between(start - timedelta(days), start - timedelta(1)))
        fitted_on = before.sample(min(2 * HELD_OUT, len(before)), seed=1)
        shifts[name] = call_offset(probabilities(model(task.seed), replace(task, held_out=fitted_on))[1], wanted)
    soon = (rows["decision_time"] < start + QUARTER).to_numpy()
    rng = np.random.default_rng(0)
    few = [call_offset(held_out[rng.choice(len(held_out), FEW, replace=False)], wanted) for _ in range(DRAWS)]
    whole_year = rows["decision_time"].max() >= start + YEAR - timedelta(days=2)  # type: ignore[operator]
    return {
        "start": f"{start:%Y-%m}",
        "quarter": {name: shifted(asked[soon], shift) for name, shift in shifts.items()},
        "year": {name: shifted(asked, shift) for name, shift in shifts.items()} if whole_year else None,
        "few_rows": float(np.std([shifted(held_out, value) for value in few])),
    }


def main() -> None:
    """Measure every quarter; print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of candles")
    parser.add_argument("--pairs", default="BTC/USDT:USDT,ETH/USDT:USDT")
    parser.add_argument("--share", type=float, default=0.25, help="wanted share of calls")
    parser.add_argument("--first", default="2022-01-01", help="first quarter")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="labels.method=volatility, say")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        sets = [f"data.folder={given.data.resolve()}", f"data.pairs={json.dumps(given.pairs.split(','))}"]
        sets += [f"run.folder={scratch}/run", "dataset.per_class=1000", f"dataset.natural_eval={HELD_OUT}"]
        config = load_config(None, [*sets, f"train.call_share={given.share}", *given.set])
        run = RunFolder(config.run.folder)
        run.path.mkdir(parents=True)
        names = ("held-out rows", *FITTED)
        print("| from | " + " | ".join(f"{name}: quarter | year" for name in names) + " |")
        print("| --- " * (1 + 2 * len(names)) + "|", flush=True)
        for start in quarters(config, datetime.fromisoformat(given.first).replace(tzinfo=UTC)):
            line = measure(config, run, start, given.share)
            found.append(line)
            cells = [f"{line[span][name]:.1%}" if line[span] else "" for name in names for span in ("quarter", "year")]
            print(f"| {line['start']} | {' | '.join(cells)} |", flush=True)
    for name in names:
        for span in ("quarter", "year"):
            shares = np.array([line[span][name] for line in found if line[span] is not None])
            error = float(np.sqrt(((shares - given.share) ** 2).mean()))
            near = int((np.abs(shares - given.share) <= 0.02).sum())
            between = int(((shares >= 0.1) & (shares <= 0.4)).sum())
            print(
                f"{name}, {span}: {shares.min():.1%} to {shares.max():.1%}, root mean square error {error:.1%}, "
                f"within two points {near} of {len(shares)}, from 10 to 40 % {between}"
            )
    print(f"{FEW} held-out rows alone: {np.mean([line['few_rows'] for line in found]):.1%} (standard deviation)")


if __name__ == "__main__":
    main()
