"""Is a planted signal found, and is noise left alone? The demo over many seeds, end to end.

    python bench/planted.py --seeds 10 --jobs 2 --folder runs/planted

Prints, a seed and signal a row, the balanced accuracy reached, the best attainable, how much of the way from chance to
it was gone, and the verdict. These are the demo's exact settings; `--longer` trains longer than it does, on more
examples (`LONGER`; a later `--set` counts), on a GPU where there is one. A second call resumes.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHANCE, UNVERIFIED = 1 / 3, 4
ALONE = ("replay.copies=1", "train.device=cpu")
"""A job takes one core but for the minute in which its incumbent is trained; neither changes an answer."""
LONGER = (
    "train.device=auto",
    "dataset.per_class=2500",
    "dataset.natural_eval=500",
    "train.effective_batch=32",
    "train.dropout=0.05",
    "train.max_steps=250",
    "train.eval_steps=0",
    "train.bf16=false",  # the same arithmetic with a GPU and without
    "replay.stride=8",
)


def one(folder: Path, seed: int, signal: float, threads: int, more: list[str]) -> dict[str, Any]:
    """Run one demo in its own process (its output goes to a log) and read what it left."""
    run = folder / f"signal-{signal:g}-seed-{seed}"
    kept = run / "result.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    run.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "candletune", "demo", "--folder", str(run)]
    command += ["--signal", str(signal), "--seed", str(seed), "--set", f"engine.threads={threads}", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (run / "log.txt").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode
    if code not in (0, UNVERIFIED):
        raise SystemExit(f"{run / 'log.txt'}: the demo ended with exit code {code}; see its last lines")
    best = json.loads((run / "attainable.json").read_text())
    trained = json.loads((run / "train" / "summary.json").read_text())["eval"]
    reached = trained["balanced_accuracy"]
    row: dict[str, Any] = {
        "signal": signal,
        "seed": seed,
        "balanced": reached,
        "attainable": best["balanced"],
        "way": (reached - CHANCE) / (best["balanced"] - CHANCE),
        "candidate": None,
        "incumbent": None,
        "boosting": None,
        "verdict": "refused by verify",
    }
    if code == 0:
        metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
        row["candidate"] = metrics["shadow"]["accuracy_signals"]
        row["incumbent"] = metrics["active"]["accuracy_signals"]
        row["boosting"] = metrics.get("baselines", {}).get("gradient boosting", {}).get("accuracy_signals")
        row["verdict"] = json.loads((run / "evaluation" / "verdict.json").read_text())["verdict"]
    kept.write_text(json.dumps(row))
    return row


def main() -> None:
    """Run every seed and signal, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--signals", type=float, nargs="+", default=[1.0, 0.0])
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a job")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    parser.add_argument("--longer", action="store_true", help="the longer training instead of the demo's")
    parser.add_argument("--set", dest="more", action="append", default=[], help="passed on to the demo")
    given = parser.parse_args()
    extra = [part for value in (*ALONE, *(LONGER if given.longer else ()), *given.more) for part in ("--set", value)]
    cases = [(signal, seed) for seed in range(1, given.seeds + 1) for signal in given.signals]
    with ThreadPoolExecutor(given.jobs) as pool:
        futures = [pool.submit(one, given.folder, seed, signal, given.threads, extra) for signal, seed in cases]
        found = []
        for future in futures:
            row = future.result()
            found.append(row)
            print(json.dumps(row), flush=True)
    print("\n| signal | seed | balanced | attainable | of the way | BUY/SELL candidate | incumbent | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(found, key=lambda row: (-row["signal"], row["seed"])):
        signals = [f"{row[side]:.3f}" if row[side] is not None else "none" for side in ("candidate", "incumbent")]
        print(
            f"| {row['signal']:g} | {row['seed']} | {row['balanced']:.3f} | {row['attainable']:.3f} "
            f"| {row['way']:.2f} | {' | '.join(signals)} | {row['verdict']} |"
        )
    for signal in given.signals:
        rows = [row for row in found if row["signal"] == signal]
        promoted = sum(row["verdict"] == "promote" for row in rows)
        way = sum(row["way"] for row in rows) / len(rows)
        print(f"signal {signal:g}: promoted {promoted} of {len(rows)}; {way:.0%} of the way on average")


if __name__ == "__main__":
    main()
