#!/usr/bin/env python3
"""How long `make demo` takes on this machine, and another demo with a new seed: figures, and no test.

Prints a table, which goes into a CI job's summary too (GITHUB_STEP_SUMMARY). `processor` adds up all cores: where it is
more than the wall time times the cores would allow, or far less, other programs had them, or something waited.

Usage: python3 tools/demo_times.py
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEED = 18


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of wall time and of processor time; ends the program where the command fails."""
    before, began = used(), time.monotonic()
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:  # noqa: S603
        sys.exit(f"error: {' '.join(command)}: exit code {code}")
    return time.monotonic() - began, used() - before


def used() -> float:
    """Processor seconds of everything that was run and has ended."""
    times = os.times()
    return times.children_user + times.children_system


def stages(run: Path) -> list[tuple[str, float]]:
    """Wall seconds by stage, from the manifests that a demo leaves."""
    found: list[tuple[str, float]] = []
    for title, path in (("the incumbent", run / "incumbent" / "manifest.json"), ("", run / "manifest.json")):
        seconds = {name: entry["seconds"] for name, entry in json.loads(path.read_text())["stages"].items()}
        found += [(title, sum(seconds.values()))] if title else list(seconds.items())
    return found


def main() -> None:
    """See the module."""
    first = timed(["make", "demo"])
    run = ROOT / "runs" / f"demo{SEED}"
    second = timed(["make", "demo", f"DEMO=--folder {run} --seed {SEED}"])
    lines = ["| | wall, s | processor, s |", "| --- | --- | --- |"]
    lines += [f"| make demo, with what it had to install | {first[0]:.0f} | {first[1]:.0f} |"]
    lines += [f"| another demo, seed {SEED} | {second[0]:.0f} | {second[1]:.0f} |"]
    lines += [f"| of it {name} | {seconds:.0f} | |" for name, seconds in stages(run)]
    text = "\n".join([*lines, "", f"{os.cpu_count()} cores; nothing measured says how busy they were with other work"])
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")


if __name__ == "__main__":
    main()
