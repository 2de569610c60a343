"""`python -m fuzz`: one target in this process, or each of several in a process of its own. See `fuzz.driver`."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.driver import MEMORY_DISK, Found, names, new_seed, run, run_case, say


def main() -> int:
    """0: nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what comes in from outside.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; none: all")
    parser.add_argument("--cases", type=int, help="how many (default: as many as in CI)")
    parser.add_argument("--seconds", type=float, help="for how long, each")
    parser.add_argument("--seed", type=int, help="default: a new one; it is printed")
    parser.add_argument("--case", type=int, help="this one alone")
    given = parser.parse_args()
    chosen = given.names or names()
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(names())}")
    seed = new_seed() if given.seed is None else given.seed
    if len(chosen) == 1:
        return alone(chosen[0], seed, given)
    options = [f"--{key}={value}" for key in ("cases", "seconds") if (value := getattr(given, key)) is not None]
    codes = [
        subprocess.run([sys.executable, "-m", "fuzz", name, f"--seed={seed}", *options], check=False).returncode
        for name in chosen
    ]
    return max(map(abs, codes))


def alone(name: str, seed: int, given: argparse.Namespace) -> int:
    """One target, here. What a crash leaves is the folder with the case that was under way."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None))
    work = folder / "work"
    work.mkdir()
    say(f"{name}: seed {seed}, in {folder}")
    begun = time.monotonic()
    try:
        if given.case is not None:
            say(f"{name}: {run_case(name, seed, given.case, work)}")
        else:
            outcomes = run(name, seed, work, cases=given.cases, seconds=given.seconds)
            counted = ", ".join(f"{count:,} {word}" for word, count in outcomes.most_common())
            say(f"{name}: {outcomes.total():,} cases in {time.monotonic() - begun:.0f} s: {counted}")
    except Found as found:
        say(f"found: {found}")
        return 1
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
