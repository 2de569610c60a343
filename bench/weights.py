"""What the decision token's weight in the loss buys: 1, 5, 20 and the soft target, over simulated markets.

    python bench/weights.py --seeds 3 --jobs 1 --folder runs/weights

Each case trains the tiny base by `candletune train` on the demo's market and dataset, and answers the same held-out
rows at their natural class shares. Balanced accuracy is of the raw probabilities (trained on balanced classes); log
loss and calibration error (ten bins of the largest probability) are after correction to the natural shares. Prints a
row a case and seed, then the means. A second call resumes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.base.find import resolve_base
from candletune.calibration import correct_prior, shares_of
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.decisions import DECISIONS
from candletune.demo import demo_config
from candletune.engines.transformers import TransformersEngine
from candletune.files import read_json, write_json

CASES = {
    "1 (the plan's loss)": ("train.decision_weight=1", "train.soft_target=0"),
    "5": ("train.decision_weight=5", "train.soft_target=0"),
    "20": ("train.decision_weight=20", "train.soft_target=0"),
    "20, soft": ("train.decision_weight=20", "train.soft_target=1"),
}
COMMON = ("dataset.per_class=1000", "dataset.natural_eval=2000", "train.max_steps=100")
Floats = NDArray[np.float64]


def one(folder: Path, seed: int, case: str, threads: int, more: list[str]) -> dict[str, Any]:
    """Train one case in its own processes and score it; a finished one is read back."""
    run = folder / f"seed-{seed}"
    kept = run / f"{case.replace(' ', '-')}.json"
    settings = [*CASES[case], *more]
    if kept.exists() and (finished := read_json(kept))["settings"] == settings:
        return dict(finished)
    config = demo_config(run, signal=1.0, seed=seed, assignments=[*COMMON, *settings])
    run.mkdir(parents=True, exist_ok=True)
    path = run / "config.json"
    path.write_text(config.model_dump_json(exclude_none=True, exclude={"incumbent"}))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--stages", str(path)]
    with (run / "log.txt").open("a") as log:
        subprocess.run(command, stdout=log, stderr=log, env=environment, check=True)
    row = {"case": case, "seed": seed, "settings": settings, **read_json(run / "scores.json")}
    write_json(kept, row)
    return row


def stages(config: Config) -> None:
    """Dataset and training of this configuration, then its scores."""
    from candletune.runs import RunFolder
    from candletune.stages import stage
    from candletune.stages.pipeline import prepare
    from candletune.stages.runner import run_stage

    run = RunFolder(config.run.folder)
    with run.lock():
        ready = prepare(config, run, SilentReporter())
        for name in ("dataset", "train"):
            run_stage(stage(name), ready, run, SilentReporter())
        write_json(run.file("scores.json"), scores(ready, run.file("adapter"), run.file("dataset")))


def scores(config: Config, adapter: Path, dataset: Path) -> dict[str, float]:
    """Of the adapter on the natural rows: balanced accuracy, accuracy, log loss and calibration error."""
    engine = TransformersEngine(config, resolve_base(config, SilentReporter()).path, quantization="nf4")
    engine.add_adapter("trained", adapter)
    engine.use("trained")
    rows = pl.read_parquet(dataset / "natural_eval.parquet")
    raw = engine.score(rows["prompt"].to_list())
    labels = np.array([DECISIONS.index(label) for label in rows["label"]])
    manifest = read_json(adapter / "candletune.json")
    trained, natural = (shares_of(manifest[key]) for key in ("class_prior", "natural_prior"))
    assert trained is not None
    assert natural is not None
    return judged(raw, labels, correct_prior(raw, trained, natural))


def judged(raw: Floats, labels: NDArray[np.int64], corrected: Floats) -> dict[str, float]:
    """The four figures; `raw` and `corrected` have one row a label and one column a class."""
    hit = raw.argmax(axis=1) == labels
    recalls = [hit[labels == k].mean() for k in range(len(DECISIONS))]
    right = corrected.argmax(axis=1) == labels
    sure = corrected.max(axis=1)
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(right[bins == k].mean() - sure[bins == k].mean()) * (bins == k).mean() for k in set(bins.tolist())]
    return {
        "balanced": float(np.mean(recalls)),
        "hold_recall": float(recalls[DECISIONS.index("HOLD")]),
        "accuracy": float(right.mean()),
        "log_loss": float(-np.log(np.maximum(corrected[np.arange(len(labels)), labels], 1e-9)).mean()),
        "calibration_error": float(sum(gaps)),
    }


def main() -> None:
    """Run every case and seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a job")
    parser.add_argument("--folder", type=Path, default=Path("runs/weights"))
    parser.add_argument(
        "--set", dest="more", action="append", default=[], help="further settings, such as train.max_steps=200"
    )
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stages:
        stages(Config.model_validate_json(given.stages.read_text()))
        return

    def of_seed(seed: int) -> list[dict[str, Any]]:
        cases = []
        for case in given.cases:
            cases.append(one(given.folder, seed, case, given.threads, given.more))
            print(json.dumps(cases[-1]), flush=True)
        return cases

    with ThreadPoolExecutor(given.jobs) as pool:
        rows = [row for cases in pool.map(of_seed, given.seeds) for row in cases]
    names = ("balanced", "hold_recall", "accuracy", "log_loss", "calibration_error")
    print(f"\n| decision weight | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for case in given.cases:
        mine = [row for row in rows if row["case"] == case]
        cells = [
            f"{statistics.mean(row[name] for row in mine):.3f} ({', '.join(f'{row[name]:.3f}' for row in mine)})"
            for name in names
        ]
        print(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
