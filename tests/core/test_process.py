"""SIGTERM ends the program as Ctrl-C does, and during training saves a checkpoint first."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from candletune.console import SilentReporter
from candletune.process import STOP_SIGNALS, on_stop

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows ends a process that is sent SIGTERM")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_asked_for_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    asked: list[int] = []
    with on_stop(lambda: asked.append(1)):
        os.kill(os.getpid(), number)
    assert asked == [1]
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_saves_before_it_stops(number: signal.Signals) -> None:
    from candletune.training.watch import interruptible

    reporter = SilentReporter()
    watcher: Any = SimpleNamespace(stop_asked=False, reporter=reporter)
    with pytest.raises(KeyboardInterrupt), interruptible(watcher):
        os.kill(os.getpid(), number)
        assert watcher.stop_asked, "the running step ends first"
    assert len(reporter.warnings) == 1
    assert "saving a checkpoint" in reporter.warnings[0]


def test_a_second_stop_interrupts_at_once() -> None:
    from candletune.training.watch import interruptible

    watcher: Any = SimpleNamespace(stop_asked=False, reporter=SilentReporter())
    with pytest.raises(KeyboardInterrupt), interruptible(watcher):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("still running")


def test_the_program_leaves_with_130() -> None:
    code = (
        "import os, signal\nfrom candletune import cli\n"
        "cli.program.main = lambda **_: os.kill(os.getpid(), signal.SIGTERM)\ncli.main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "interrupted; run the same command again to resume\n"


def test_a_part_of_anothers_work_ends_with_it() -> None:
    child = "import time; from candletune.process import end_with_parent; end_with_parent(); "
    child += "print('on', flush=True); time.sleep(20); print('late', flush=True)"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"on\n"
        parent.kill()
        assert parent.stdout.read() == b""
