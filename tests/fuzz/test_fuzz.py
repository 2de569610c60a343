"""Every fuzz target, bounded, in a process of its own; `make fuzz` goes on for longer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuzz import driver
from fuzz.damage import damaged, hostile_json
from fuzz.driver import Check, Found, Target, case_of, names, new_seed, run

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", names())
def test_nothing_is_found(name: str) -> None:
    folders = [str(TESTS), str(TESTS / "live"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-m", "fuzz", name, f"--seed={new_seed()}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    sys.stdout.write(done.stdout)  # the seed
    assert done.returncode == 0, done.stdout + done.stderr[-4_000:]


def _toy(broken: str) -> Target[int]:
    @contextmanager
    def opened(_: Path) -> Iterator[Check[int]]:
        def check(case: int) -> str:
            if case % 50 == 7:
                if broken == "an exception":
                    raise KeyError(case)
                if broken == "a refusal of two lines":
                    raise ValueError("a\nb")
                if broken == "time":
                    sum(range(3_000_000))
            return "even" if case % 2 == 0 else "odd"

        yield check

    return Target(lambda rng: rng.randrange(100), opened, refusals=(ValueError,), cases=300, seconds=0.01)


@pytest.mark.parametrize("broken", ["nothing", "an exception", "a refusal of two lines", "memory", "time"])
def test_the_driver_finds_what_it_must(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "target", lambda _: _toy(broken))
    ran: list[int] = []
    monkeypatch.setattr(driver, "highest_memory", lambda: 80.0 * (broken == "memory" and len(ran) > 100))
    made = case_of

    def counted(target: Target[int], seed: int, number: int) -> int:
        ran.append(number)
        return made(target, seed, number)

    monkeypatch.setattr(driver, "case_of", counted)
    if broken == "nothing":
        assert run("toy", 1, tmp_path).total() == 300
        return
    with pytest.raises(Found, match=r"--seed 1 --case \d+|seed 1, up to case"):
        run("toy", 1, tmp_path)


def test_a_case_comes_again() -> None:
    made: Target[bytes] = Target(lambda rng: damaged(rng, bytes(range(256))), None)  # type: ignore[arg-type]
    assert case_of(made, 3, 9) == case_of(made, 3, 9) != case_of(made, 3, 10)
    texts = Target(lambda rng: hostile_json(rng, {"ticker": "BTC", "rsi": 28.3}), None)  # type: ignore[arg-type]
    assert len({case_of(texts, 1, number) for number in range(200)}) > 50
