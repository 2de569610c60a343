"""Commands of every documentation page, run as they are written there, in a folder with a small configuration.

README.md and docs/gpu.md are walked by test_walk.py. Every other command in a code block is in `RUN`, or has
its reason in `NOT_RUN`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_commands import PAGES, Typed, commands
from path_user import User

SMALL = """
[run]
folder = "runs/default"
[data]
folder = "market"
[base]
model = "tiny"
[dataset]
per_class = 60
natural_eval = 40
[train]
device = "cpu"
max_steps = 4
policy_steps = 1
learning_rate = 5e-3
eval_steps = 2
[export]
quantize = "F16"
[verify]
prompts = 10
min_agreement = 0.9
[replay]
limit = 40
reasons = 3
[evaluate]
resamples = 200
[engine]
threads = 1
"""
"""What makes it small: hardly trained, a handful of rows; the commands are those of the pages, without a word more."""
CONTEXT = '{"ticker": "BTC", "price_usd": 97000, "rsi": 28.3, "ema_bullish": true}'


@dataclass(frozen=True, slots=True)
class Run:
    """A command as the pages have it.

    Attributes:
        line: its words, as the test of the pages reads them.
        codes: exit codes that the pages give it here.
        stdin: what is piped in.
        said: stands in what it prints.
    """

    line: str
    codes: tuple[int, ...] = (0,)
    stdin: str = ""
    said: str = ""


RUN = (
    Run("candletune simulate --news 1 --signal 0 --output market --set labels.threshold=0.03", said="market"),
    Run("candletune doctor --json", said='"findings"'),
    Run("candletune run --json --require-promote", (0, 4), said='"verdict"'),
    Run("candletune base", said="up to date"),
    Run("candletune dataset --audit 20", said="audit"),
    Run("candletune dataset --config candletune.toml --audit 300", said="audit"),
    Run("candletune train", said="up to date"),
    Run("candletune train --config candletune.toml", said="up to date"),
    Run("candletune export", said="up to date"),
    Run("candletune verify", said="up to date"),
    Run("candletune replay", said="up to date"),
    Run("candletune evaluate --criteria plan", said="criterion"),
    Run("candletune evaluate --criteria plan --require-promote", (0, 4), said="criterion"),
    Run("candletune evaluate --require-promote", (0, 4), said="criterion"),
    Run("candletune report", said="index.html"),
    Run("candletune compare runs/rank8 runs/rank16 runs/rank32", said="rank16"),
    Run("candletune shadow --once"),
    Run("candletune journal check", said="rows"),
    Run("candletune journal repair"),
    Run("candletune drift"),
)
"""In this order."""
NOT_RUN: dict[str, str] = {}


def text_of(line: Typed) -> str:
    """On one line, blanks between words as one."""
    return " ".join(str(line).split())


def written() -> dict[str, list[str]]:
    """Every command in a code block of the pages that test_walk.py does not walk, and the pages that have it."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        if page.name not in {"README.md", "gpu.md"}:
            for line in commands(page):
                if not line.prose:
                    found.setdefault(text_of(line), []).append(page.name)
    return found


@pytest.mark.slow
@pytest.mark.llamacpp
def test_as_written(tmp_path: Path) -> None:
    user, pages = User(), written()
    (tmp_path / "candletune.toml").write_text(SMALL, encoding="utf-8")
    for step in RUN:
        assert step.line in pages, f"no page has {step.line}"
        if step.line.startswith("candletune compare"):
            for name in ("rank8", "rank16", "rank32"):
                shutil.copytree(tmp_path / "runs" / "default", tmp_path / "runs" / name)
        said, code = type_it(user, step.line.split()[1:], tmp_path, step)
        assert code in step.codes, f"{step.line}: exit code {code}\n{said[-3000:]}"
        assert step.said in said, f"{step.line}\n{said[-3000:]}"


def type_it(user: User, words: Sequence[str], folder: Path, step: Run) -> tuple[str, int]:
    """Run it; what it prints, and its exit code."""
    import subprocess

    from path_user import environment

    done = subprocess.run(
        [*user.program, *words],
        cwd=folder,
        input=step.stdin,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=600,
        check=False,
    )
    print(step.line, done.returncode, (done.stdout + done.stderr)[-600:])
    return done.stdout + done.stderr, done.returncode
