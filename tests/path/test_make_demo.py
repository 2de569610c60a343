"""`make demo` hands the demo on as it is, with as many threads as PyTorch takes by itself."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_leaves_the_number_of_threads_open(tmp_path: Path) -> None:
    """`nproc` says what OMP_NUM_THREADS says, and the Makefile sets that to one: the demo ran on one core of two."""
    program = tmp_path / "bin" / "candletune"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "threads: ${OMP_NUM_THREADS-as many as there are}, arguments: $*"\n')
    program.chmod(0o755)
    (tmp_path / ".ready-demo").touch()
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "-s", "demo", f"VENV={tmp_path}", "DEMO=--seed 3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "threads: as many as there are, arguments: demo --seed 3\n"
