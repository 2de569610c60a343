"""`make demo` leaves the number of threads to PyTorch or to the user; `make unit` sets it to one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def made(target: str, environment: Path, **more: str) -> str:
    """What `make TARGET` prints, with programs in `environment` that say how many threads they were told to take."""
    for name in ("candletune", "python"):
        program = environment / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\necho "threads: ${OMP_NUM_THREADS-as many as there are}, arguments: $*"\n')
        program.chmod(0o755)
    for stamp in (".ready", ".ready-demo"):
        (environment / stamp).touch()
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MAKEFLAGS")}
    command = ["make", "-s", target, f"VENV={environment}", "DEMO=--seed 3"]
    done = subprocess.run(command, cwd=ROOT, env=kept | more, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_demo_leaves_the_number_of_threads_open(tmp_path: Path) -> None:
    """`nproc` says what OMP_NUM_THREADS says, and the Makefile set that to one: the demo ran on one core of two."""
    assert made("demo", tmp_path) == "threads: as many as there are, arguments: demo --seed 3\n"


def test_make_demo_takes_the_number_of_threads_that_is_set(tmp_path: Path) -> None:
    assert made("demo", tmp_path, OMP_NUM_THREADS="3").startswith("threads: 3,")


def test_make_unit_takes_one_thread_a_process(tmp_path: Path) -> None:
    said = made("unit", tmp_path).splitlines()
    assert said
    assert all(line.startswith("threads: 1,") for line in said)
