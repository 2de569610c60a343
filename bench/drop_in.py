#!/usr/bin/env python3
"""Is the plain greedy answer of the drop-in the decision that was judged? Over the rows of a run's replay.

Writes the replay's prompts, rendered anew from the candles and found in the journal by their hashes, with the
candidate's judged decisions; asks them with examples/drop_in.py, a process of its own that knows nothing of candletune;
and prints how many decisions are the same, where they differ, and how many answers are clean: ended by the model
itself, one line in the demanded form, without a marker of any chat.

Usage: python bench/drop_in.py --config CANDLETUNE.toml [--set KEY=VALUE ...] [--rows 500] [--threads N]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from candletune.artifacts import ExportSummary
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.engines import base_gguf
from candletune.journal import read_frame
from candletune.live.models import candidate_model, compared_incumbent
from candletune.prompts.parse import parse_answer
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare
from candletune.stages.replay_inputs import unseen_rows

MARKER = re.compile(r"<[|/]?[a-z_]+[|>]|\[/?INST|<</?SYS|\b(?:user|assistant|system)\b *[\n(]|usersystem")
SCRIPT = Path(__file__).parents[1] / "examples" / "drop_in.py"


def judged_rows(config: Config, run: RunFolder, count: int) -> pl.DataFrame:
    """`prompt` and the candidate's `decision` of at most `count` answered rows, evenly over the replay."""
    candidate = candidate_model(run)
    rows, _ = unseen_rows(config, run, candidate, compared_incumbent(config, candidate)[0])
    journal = read_frame(run.journal).select("prompt_sha256", decision="shadow_action").drop_nulls()
    joined = rows.select("prompt", "prompt_sha256").join(journal.unique("prompt_sha256"), on="prompt_sha256")
    if joined.is_empty():
        raise SystemExit(f"{run.journal}: none of its prompts is what these settings render")
    wanted = min(count, len(joined))
    return joined[[number * len(joined) // wanted for number in range(wanted)]]


def is_clean(answer: dict[str, Any]) -> bool:
    """Whether an answer ended itself and is one line of the demanded form, without a marker."""
    text = str(answer["text"])
    whole = parse_answer(text).action is not None and "\n" not in text.strip()
    return bool(answer["ended"]) and whole and MARKER.search(text) is None


def ask(config: Config, run: RunFolder, rows: pl.DataFrame, threads: int) -> list[dict[str, Any]]:
    """What the script answers to each row, in a process without candletune on its path."""
    merged = run.summary(ExportSummary).merged
    files = [run.merged_gguf, "-"] if merged else [base_gguf(config, run), run.adapter_gguf]
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows.to_dicts()), encoding="utf-8")
        command = [sys.executable, "-I", str(SCRIPT), *map(str, files), str(prompts)]
        more = ["--max-tokens", str(config.engine.max_tokens), *(["--threads", str(threads)] if threads else [])]
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{SCRIPT.name}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Ask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    config = load_config(given.config, given.assignments)
    run = RunFolder(config.run.folder)
    config = prepare(config, run, SilentReporter())
    rows = judged_rows(config, run, given.rows)
    answers = ask(config, run, rows, given.threads)
    pairs = Counter(zip(rows["decision"], (answer["decision"] for answer in answers), strict=True))
    same = sum(count for (judged, said), count in pairs.items() if judged == said)
    print(f"{same} of {len(rows)} decisions are the judged ones ({same / len(rows):.1%})")
    clean = sum(is_clean(answer) for answer in answers)
    print(f"{clean} of {len(rows)} answers ended themselves and are clean ({clean / len(rows):.1%})")
    for answer in [answer for answer in answers if not is_clean(answer)][:5]:
        print("not clean:", json.dumps(answer))
    print("| judged | the drop-in says | rows |\n| --- | --- | --- |")
    for (judged, said), count in sorted(pairs.items()):
        print(f"| {judged} | {said} | {count} |")


if __name__ == "__main__":
    main()
