"""Commands of every documentation page, run as they are written there, in a folder with a small configuration.

README.md and docs/gpu.md are walked by test_walk.py. Every other command in a code block is in `RUN`, or has its reason
in `NOT_RUN`.
"""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_commands import PAGES, ROOT, Typed, commands
from path_user import User, environment
from test_commands import is_walked, walked

SMALL = """
[run]
folder = "runs/default"
[data]
folder = "market"
[dataset]
per_class = 60
natural_eval = 40
[base]
model = "tiny"
[train]
device = "cpu"
max_steps = 4
effective_batch = 8
policy_steps = 1
learning_rate = 5e-3
eval_steps = 2
[export]
quantize = "F16"        # after four steps most answers are nearly ties, which eight bits turn
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
"""What makes it small; the commands are those of the pages, without a word more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A command as the pages have it.

    Attributes:
        line: its words, as the test of the pages reads them.
        codes: exit codes that the pages give it here.
        said: stands in what it prints.
        stdin: what is piped in.
    """

    line: str
    codes: tuple[int, ...] = (0,)
    said: str = ""
    stdin: str = ""


RUN = (
    Run("candletune simulate --news 1 --signal 0 --output market --set labels.threshold=0.03", said="market"),
    Run("candletune doctor --json", said='"level"'),
    Run("candletune base", said="base.gguf"),
    Run("candletune dataset --audit 20", said="audit"),
    Run("candletune train", said="4 steps"),
    Run("candletune export", said="adapter GGUF"),
    Run("candletune verify", said="ok   loads"),
    Run("candletune evaluate --register", said="registered"),
    Run("candletune replay", said="80 decisions of 2 tickers"),
    Run("candletune evaluate --criteria plan", said="criterion"),
    Run("candletune evaluate --criteria plan --require-promote", (0, 4), said="criterion"),
    Run("candletune evaluate --require-promote", (0, 4), said="criterion"),
    Run("candletune report", said="index.html"),
    Run("candletune run --json --require-promote", (0, 4), said='"verdict"'),
    Run("candletune train --config candletune.toml", said="up to date"),
    Run("candletune dataset --config candletune.toml --audit 300", said="audit"),
    Run("candletune compare runs/rank8 runs/rank16 runs/rank32", said="rank16"),
    Run("candletune shadow --once", said="rows written"),
    Run("candletune journal check", said="nothing wrong"),
    Run("candletune journal repair", said="nothing to repair"),
    Run("candletune drift", said="nothing was promoted"),
    Run("candletune dataset --set data.headlines=headlines.csv", said="headlines: "),
)
"""In this order, in one folder."""
CARD = "wants a card and weights that are not here"
SYSTEM = "changes the machine, or belongs to it"
INSTALLS = "packages from elsewhere; tests/wheel/check_wheel.py installs a wheel"
SERVES = "serves until it is stopped; tests/ui/test_ui_app.py"
MINUTES = "minutes"
BENCH = "a benchmark: its figures are on the page"
JOURNALS = "wants a journal of the user's own; tests/evaluation/test_journal_import.py"
SCHEDULE = "the machine's scheduler; tests/schedule/test_schedule_examples.py reads what it is given"
NOT_RUN = {
    r"(sudo )?apt-get .*|activate|py -3.11 .*|cp .*|echo .*|xdg-open .*|my-trader": SYSTEM,
    r"systemctl .*|schtasks .*|journalctl .*": SCHEDULE,
    r"pip install .*|make setup": INSTALLS,
    r"make demo|candletune demo .*": f"{MINUTES}; tests/wheel/check_wheel.py runs a demo",
    r"candletune ui( .*)?": SERVES,
    r"candletune (run|doctor) --config examples/smollm2.toml.*": (
        "a model of 98 MB; tests/pipeline/test_gguf_base.py trains it"
    ),
    r"candletune coins .*": f"{MINUTES}; tests/experiments/test_coins.py",
    r"candletune walk .*": f"{MINUTES}; tests/walk/test_walk_forward.py",
    r"candletune (sweep|compare runs/(default/)?sweep|run --config runs/default/sweep).*": (
        f"{MINUTES}; tests/experiments/test_sweep.py and tests/experiments/test_compare.py"
    ),
    r"candletune retrain .*": f"{MINUTES}; tests/pipeline/test_retrain.py",
    r"candletune compare .* --mlflow .*": "an extra package, and a server; tests/experiments/test_tracking.py",
    r"candletune replay --ray .*|ray start .*": "a cluster; tests/evaluation/test_replay_ray.py has a local one",
    r"candletune replay --set replay.stride=1 .*": f"{MINUTES}: every hour of the kept out months",
    r"candletune fetch candles .*": "another host; tests/market/test_fetch_candles.py has a local one",
    r"candletune fetch fear-greed .*": "another host; tests/market/test_fetch_fear_greed.py has a local one",
    r"candletune shadow --exchange .*": "an exchange; tests/live/test_shadow_exchange.py has a local one",
    r"candletune journal import .*|candletune report --journal .*": JOURNALS,
    r"candletune template .*": "wants the trader's own program; tests/prompts/test_bring_your_trader.py",
    r"python examples/drop_in.py .*": "prompts of the trader's own; tests/pipeline/test_drop_in.py",
    r"python bench/.*": BENCH,
    r"llama-server .*": "another program; tests/live/test_serving.py",
}
"""Patterns of the commands that are not run here, and why; the files named must exist."""


def text_of(line: Typed) -> str:
    """On one line, with single blanks."""
    return " ".join(str(line).split())


def written() -> dict[str, list[str]]:
    """Every command in a code block of the pages that test_walk.py does not run, and the pages that have it."""
    calls, found = walked(), dict[str, list[str]]()
    for page in PAGES:
        if page.name not in {"README.md", "gpu.md"}:
            for line in commands(page):
                if not line.prose and not is_walked(line, calls):
                    found.setdefault(text_of(line), []).append(page.name)
    return found


def test_every_command_is_run_or_has_its_reason() -> None:
    run = {step.line for step in RUN}
    assert run <= written().keys(), "a command that no page has"
    for line, pages in written().items():
        reasons = [pattern for pattern in NOT_RUN if re.fullmatch(pattern, line)]
        assert len(reasons) + (line in run) == 1, f"{pages}: {line}"
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, line) for line in written()), f"no page has {pattern}"


@pytest.mark.parametrize("reason", sorted(set(NOT_RUN.values())))
def test_what_a_reason_names_exists(reason: str) -> None:
    for file in re.findall(r"tests/[\w/]+\.py", reason):
        assert (ROOT / file).is_file(), file


@pytest.mark.slow
@pytest.mark.llamacpp
def test_as_written(tmp_path: Path) -> None:
    user = User()
    (tmp_path / "candletune.toml").write_text(SMALL, encoding="utf-8")
    for step in RUN:
        if step.line.startswith("candletune compare"):
            for name in ("rank8", "rank16", "rank32"):
                shutil.copytree(tmp_path / "runs" / "default", tmp_path / "runs" / name)
        if "headlines.csv" in step.line:
            shutil.copy(tmp_path / "market" / "headlines.csv", tmp_path)
        line = [*user.program, *shlex.split(step.line)[1:]]
        done = subprocess.run(
            line,
            cwd=tmp_path,
            input=step.stdin,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=600,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode in step.codes, f"{step.line}: exit code {done.returncode}\n{said[-3000:]}"
        assert step.said in said, f"{step.line}\n{said[-3000:]}"
        assert "Traceback" not in said, step.line
        assert "internal error" not in said, step.line
        if os.environ.get("CANDLETUNE_SHOW"):
            print(f"$ {step.line} [{done.returncode}]\n{said[-500:]}", flush=True)
