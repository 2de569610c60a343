"""Does a sweep promote luck? Twelve trials on a market without signal, the winner's verdict, many times over.

    python bench/sweep.py --repetitions 40 --out runs/sweep
    python bench/sweep.py --repetitions 10 --signal 1 --out runs/sweep-signal

Each repetition is a simulated market of its own (two coins, three years hourly, the last one kept for the replay).
Gradient boosting stands in for the language model, through the code of `candletune sweep --model boosting --judge`:
twelve trials on the eval split, one winner, one look at the replay range. With `--every` each trial's replay is judged
too, as if it were the only one: what somebody finds who replays all twelve and keeps the best, without a ledger.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.experiments.boosting import judge_boosting
from candletune.experiments.space import trial_config
from candletune.experiments.sweep import run_sweep
from candletune.experiments.winner import judge_winner
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare

TABLE = """
[simulate]
enabled = true
[dataset]
test_start = 2024-01-01
[replay]
reasons = 0
[evaluate]
baselines = false
resamples = 200
[sweep]
model = "boosting"
"boosting.max_leaf_nodes" = [4, 8, 16]
"boosting.learning_rate" = [0.03, 0.1]
"boosting.max_iter" = [60, 120]
"""


def repetition(seed: int, signal: float, folder: Path, *, every: bool) -> dict[str, object]:
    """One market: the winner, its verdict, and (`every`) the verdicts of all trials, each alone."""
    file = folder / "sweep.toml"
    file.write_text(TABLE + "[run]\nfolder = 'run'\n[live]\nstate = 'live/active.json'\n", encoding="utf-8")
    config = load_config(file, [f"seed={seed}", f"simulate.signal={signal}"])
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        ready = prepare(config, run, reporter)
        found = run_sweep(ready, run, reporter, folder=folder)
        verdict = judge_winner(found, RunFolder(run.sweep), reporter).verdict
    best = found.best()
    assert best is not None
    alone = [
        judged_alone(ready, trial.settings, folder / f"alone-{k}") for k, trial in enumerate(found.trials) if every
    ]
    return {
        "seed": seed,
        "winner": found.winner,
        "score": best.score,
        "pruned": found.count("pruned"),
        "verdict": verdict,
        "alone": alone,
    }


def judged_alone(config: Config, settings: object, folder: Path) -> str:
    """A trial's verdict with a ledger of its own."""
    assert isinstance(settings, dict)
    own = trial_config(config, settings, folder / "run", folder)
    own = own.model_copy(update={"evaluate": own.evaluate.model_copy(update={"ledger": folder / "ledger.jsonl"})})
    run = RunFolder(own.run.folder)
    with run.lock():
        return judge_boosting(own, run, SilentReporter()).verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--signal", type=float, default=0.0)
    parser.add_argument("--every", action="store_true", help="judge every trial alone too")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "sweep.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in range(100 + len(done), 100 + options.repetitions):
        folder, start = (options.out / f"seed-{seed}").resolve(), time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done.append(repetition(seed, options.signal, folder, every=options.every))
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(done[-1]) + "\n")
        shutil.rmtree(folder)
        print(f"{done[-1]}, {time.monotonic() - start:.0f} s", flush=True)
    promoted = sum(entry["verdict"] == "promote" for entry in done)
    best = sum("promote" in entry["alone"] for entry in done)
    scores = [float(entry["score"]) for entry in done]
    print(f"| repetitions | {len(done)} |\n| winner promoted | {promoted} |")
    print(f"| mean log loss of the winner beyond the base rates | {sum(scores) / len(scores):+.4f} |")
    print(f"| trials pruned | {sum(int(entry['pruned']) for entry in done)} |")
    if options.every:
        print(f"| at least one of the twelve promoted, each judged alone | {best} |")


if __name__ == "__main__":
    main()
