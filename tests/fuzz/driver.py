"""Fuzzing with a budget: a target makes a case from a random generator, and checks it; the driver does the rest.

A target is a module `fuzz_<name>.py` in this folder with a `TARGET`; it is found by itself:

    @contextmanager
    def opened(folder: Path) -> Iterator[Check[bytes]]:     # folder: empty, removed at the end; set up once, not a case
        path = folder / "a.gguf"

        def check(case: bytes) -> str:
            path.write_bytes(case)
            read_header(path)          # an InputError is a refusal, which is fine; any other exception is a finding
            return "read"              # a word for the summary

        yield check

    TARGET = Target(make=lambda rng: damaged(rng, SEED), opened=opened)

`make` gets a generator of this very case and returns it (bytes, text, any value); it must draw from that generator
alone, so that seed and number give the case again. `check` returns a word, raises one of `refusals` (each one line of
at most 600 characters), or finds something: any other exception, `AssertionError` for a wrong answer. Helpers that
damage bytes and make hostile JSON are in `fuzz.damage`.

    python -m fuzz NAME --cases 10000          # a seed of its own, printed; --seed N to repeat
    python -m fuzz NAME --seed 7 --case 123    # one case again, on its own
    python -m fuzz --seconds 600               # every target in turn, ten minutes each (`make fuzz`)

What is held: no exception but a refusal, no case above 2 seconds of processor time (`Target.seconds`), none that
doesn't return at all, and no memory above 64 MiB over the start (`Target.mebibytes`), by the process's own highest mark
where the system tells it. Each target runs in a process of its own, so a crash is found like any other thing: the case
under way is in the folder that is named. `test_fuzz.py` runs `Target.cases` of each in CI.
"""

import faulthandler
import importlib
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from candletune.errors import CandletuneError

T = TypeVar("T")
Check = Callable[[T], str]
HERE = Path(__file__).parent
LONGEST_ERROR = 600
STUCK = 120.0
"""Seconds after which a hundred cases that haven't returned end the process with its stack."""
MEMORY_DISK = Path("/dev/shm")  # noqa: S108
"""Where files cost least, on systems that have it."""


@dataclass(frozen=True)
class Target(Generic[T]):
    """What is fuzzed.

    Attributes:
        make: a case from a generator.
        opened: sets up once, in an empty folder, and yields what checks a case.
        refusals: exceptions that are right answers.
        cases: run in CI.
        seconds: of processor time that a case may take.
        mebibytes: of memory that all cases together may add.
    """

    make: Callable[[random.Random], T]
    opened: Callable[[Path], AbstractContextManager[Check[T]]]
    refusals: tuple[type[Exception], ...] = (CandletuneError,)
    cases: int = 10_000
    seconds: float = 2.0
    mebibytes: float = 64.0


class Found(Exception):
    """A case that did what no case may; the text says how to run it again."""


def names() -> list[str]:
    """Every target's."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def target(name: str) -> Target[Any]:
    """A target by its name."""
    found: Target[Any] = importlib.import_module(f"fuzz.fuzz_{name}").TARGET
    return found


def case_of(made: Target[T], seed: int, number: int) -> T:
    """A case again."""
    return made.make(random.Random(f"{seed}:{number}"))  # noqa: S311


def highest_memory() -> float:
    """MiB: the highest that this process ever had in memory; where the system keeps no mark, what it has now."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process().memory_info().rss) / 2**20


def run(name: str, seed: int, folder: Path, *, cases: int | None = None, seconds: float | None = None) -> Counter[str]:
    """Run a target: so many cases, or for so many seconds; neither: as many as in CI.

    Returns:
        How often each word came back; `refused` for refusals.

    Raises:
        Found: the first finding.
    """
    made = target(name)
    limit = made.cases if cases is None and seconds is None else cases
    end = None if seconds is None else time.monotonic() + seconds
    outcomes: Counter[str] = Counter()
    with made.opened(folder) as check, (folder / "under_way.txt").open("wb", buffering=0) as note:

        def one(number: int) -> str:
            if number % 100 == 0:
                faulthandler.dump_traceback_later(STUCK, exit=True)
            again = f"`python -m fuzz {name} --seed {seed} --case {number}`"
            note.seek(0)
            note.write(again.encode())
            return _one(made, check, case_of(made, seed, number), again)

        try:
            for number in range(20):  # imports and caches fill; what grows after that counts
                one(number)
            start, number = highest_memory(), 0
            while (limit is None or number < limit) and (end is None or time.monotonic() < end):
                outcomes[one(number)] += 1
                number += 1
                if number % 100 == 0 or number == limit:
                    _check_memory(made, start, f"{name}: seed {seed}, up to case {number - 1}")
        finally:
            faulthandler.cancel_dump_traceback_later()
    return outcomes


def run_case(name: str, seed: int, number: int, folder: Path) -> str:
    """One case on its own."""
    made = target(name)
    with made.opened(folder) as check:
        return _one(made, check, case_of(made, seed, number), f"seed {seed}, case {number}")


def _check_memory(made: Target[Any], start: float, where: str) -> None:
    grown = highest_memory() - start
    if grown > made.mebibytes:
        raise Found(f"{where}: {grown:.0f} MiB over the start, {made.mebibytes:g} is the most")


def _one(made: Target[T], check: Check[T], case: T, again: str) -> str:
    begun = time.process_time()
    try:
        word = check(case)
    except made.refusals as refusal:
        text = str(refusal)
        if "\n" in text or not 0 < len(text) <= LONGEST_ERROR:
            raise Found(f"{again}: the refusal is no line of at most {LONGEST_ERROR}: {text[:2000]!r}") from refusal
        word = "refused"
    except Exception as error:
        raise Found(f"{again}: {type(error).__name__}: {str(error)[:2000]}") from error
    spent = time.process_time() - begun
    if spent > made.seconds:
        raise Found(f"{again}: {spent:.1f} seconds of processor time, {made.seconds:g} is the most")
    return word


def new_seed() -> int:
    """A seed that nobody chose, unless CANDLETUNE_FUZZ_SEED does."""
    return int(os.environ.get("CANDLETUNE_FUZZ_SEED") or int.from_bytes(os.urandom(4), "little"))


def say(text: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
