"""Progress without a terminal: lines for a log file."""

import io
import os
import queue
import re
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from rich.console import Console

from candletune.console import Pace, RichReporter, Ticks, duration, from_here


def test_paths_are_shown_from_the_working_folder_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    RichReporter(Console(file=out, width=300)).say(f"report: {tmp_path / 'runs' / 'x.html'}, {tmp_path.parent / 'y'}")
    assert out.getvalue() == f"report: {Path('runs', 'x.html')}, {tmp_path.parent / 'y'}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{here}a.toml: no such file", "a.toml: no such file"),
        ("read ({here}a, {here}b)", "read (a, b)"),
        ("--set run.folder={here}runs", "--set run.folder=runs"),
        ('set base.gguf to "{here}a.gguf"', 'set base.gguf to "{here}a.gguf"'),
        ("see file://{here}a.html", "see file://{here}a.html"),
        ("at sqlite:///{here}a.db", "at sqlite:///{here}a.db"),
        ("in /srv-{here}a and /mnt{here}b", "in /srv-{here}a and /mnt{here}b"),
    ],
)
def test_only_a_path_that_begins_there_is_shortened(
    text: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = f"{tmp_path}{os.sep}"
    assert from_here(text.replace("{here}", here)) == shown.replace("{here}", here)


def test_a_terminal_breaks_lines_between_words_and_no_path() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=True, color_system=None)
    path = "runs/" + "long/" * 10 + "index.html"
    RichReporter(console).say(f"a message that is longer than one line of this terminal: {path} (1.6 MB)")
    lines = out.getvalue().splitlines()
    assert lines == ["a message that is longer than one line", "of this terminal:", path, "(1.6 MB)"]
    RichReporter(console).warn("  words and words and words [and words] in brackets")
    assert out.getvalue().splitlines()[4:] == ["warning:   words and words and words", "[and words] in brackets"]
    log = io.StringIO()
    RichReporter(Console(file=log, width=40)).say("a message that is longer than one line of this terminal")
    assert log.getvalue().count("\n") == 1


def test_a_log_file_hears_of_the_start_and_the_end() -> None:
    out = io.StringIO()
    with RichReporter(Console(file=out, width=200)).task("training", 3) as task:
        for _ in range(3):
            task.advance()
    assert re.fullmatch(r"training: started, 3 to do\ntraining: done, 3 in \d+ s\n", out.getvalue())


def test_a_log_file_hears_of_a_stop() -> None:
    out = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        RichReporter(Console(file=out, width=200)).task("training", 3) as task,
    ):
        task.advance(2)
        raise KeyboardInterrupt
    assert re.search(r"training: stopped after \d+ s, 2 done\n$", out.getvalue())
    assert "done, " not in out.getvalue()


def test_a_log_file_hears_how_far_a_task_is_though_it_does_not_move() -> None:
    heard = threading.Event()

    class Log(io.StringIO):
        def write(self, text: str) -> int:
            if "2 of 8 (25%)" in text:
                heard.set()
            return super().write(text)

    log = Log()
    with RichReporter(Console(file=log, width=200), every=0.01).task("replay", 8) as task:
        task.advance(2, "loss 0.4")
        assert heard.wait(20)
    assert re.search(r"replay: 2 of 8 \(25%\), .*, about .* left, loss 0\.4\n", log.getvalue())
    assert threading.active_count() == len([t for t in threading.enumerate() if t.name not in ("progress", "working")])


class FakeTicks(Ticks):
    """A clock that stands until the test lets time pass; the reporter's lines come at that moment."""

    def __init__(self) -> None:
        self.time = 0.0
        self.asked: dict[str, queue.SimpleQueue[float]] = defaultdict(queue.SimpleQueue)
        self.woken: dict[str, queue.SimpleQueue[bool]] = defaultdict(queue.SimpleQueue)

    def now(self) -> float:
        return self.time

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        name = threading.current_thread().name
        self.asked[name].put(seconds)  # whatever was to be said is said by now
        return self.woken[name].get(timeout=20)

    def pass_by(self, seconds: float, *threads: str, end: bool = False) -> None:
        """Let time pass, and each of the threads say its line, or with `end` find that it is over."""
        waits = [self.asked[name].get(timeout=20) for name in threads]
        assert set(waits) == {30}
        self.time += seconds
        for name in threads:
            self.woken[name].put(end)
            if not end:
                self.asked[name].put(self.asked[name].get(timeout=20))  # until the line is said


def test_every_thirty_seconds_a_log_file_hears_done_rate_and_time_left() -> None:
    out, ticks = io.StringIO(), FakeTicks()
    with RichReporter(Console(file=out, width=200), ticks=ticks).task("replay", 1000) as task:
        task.resume(400)
        ticks.pass_by(30, "progress")
        ticks.pass_by(30, "progress")
        task.advance(100, "loss 0.4")
        ticks.pass_by(70, "progress")
        ticks.pass_by(0, "progress", end=True)
    assert out.getvalue().splitlines() == [
        "replay: started, 1000 to do",
        "replay: 400 of 1000 (40%)",
        "replay: 400 of 1000 (40%)",
        "replay: 500 of 1000 (50%), 1.3 s each, about 10 min 50 s left, loss 0.4",
        "replay: done, 500 in 2 min 10 s",
    ]


def test_work_without_a_task_is_not_silent() -> None:
    """A stage that counts nothing, before, between and behind its tasks."""
    out, ticks = io.StringIO(), FakeTicks()
    reporter = RichReporter(Console(file=out, width=200), ticks=ticks)
    with reporter.working("evaluate"):
        ticks.pass_by(30, "working")
        with reporter.task("baselines", 2) as task:
            task.advance()
            ticks.pass_by(30, "working", "progress")
            ticks.pass_by(0, "progress", end=True)
        ticks.pass_by(30, "working")
        ticks.pass_by(0, "working", end=True)
    assert out.getvalue().splitlines() == [
        "evaluate: at work, 30 s",
        "baselines: started, 2 to do",
        "baselines: 1 of 2 (50%), 30 s each, about 30 s left",
        "baselines: done, 1 in 30 s",
        "evaluate: at work, 1 min 30 s",
    ]


def test_on_a_terminal_bars_are_enough() -> None:
    out = io.StringIO()
    with RichReporter(Console(file=out, width=200, force_terminal=True), every=0.001).working("evaluate"):
        assert not [thread for thread in threading.enumerate() if thread.name == "working"]
    assert out.getvalue() == ""


def test_a_resumed_task_does_not_count_what_was_done_before_as_its_own_pace() -> None:
    now = [0.0]
    pace = Pace("x", 1000, clock=lambda: now[0])
    pace.resume(900)
    now[0] = 10
    assert (pace.done, pace.seconds_left) == (900, None)
    pace.advance(10, "")
    assert pace.seconds_left == 90
    assert pace.line() == "x: 910 of 1000 (91%), 1/s, about 1 min 30 s left"


def test_a_terminals_bar_begins_behind_what_was_done() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with RichReporter(console).task("replay", 10) as task:
        task.resume(4)
        task.advance(2)
        (bar,) = task._progress.tasks  # type: ignore[attr-defined]
        assert (bar.completed, bar.total) == (6, 10)


def test_pace() -> None:
    now = [100.0]
    pace = Pace("x", 10, clock=lambda: now[0])
    assert (pace.line(), pace.seconds_left) == ("x: 0 of 10 (0%)", None)
    now[0] += 8
    pace.advance(4, "note")
    pace.advance(0, "")
    assert pace.seconds_left == 12
    assert pace.line() == "x: 4 of 10 (40%), 2 s each, about 12 s left, note"
    uncounted = Pace("y", None, clock=lambda: now[0])
    now[0] += 7
    assert uncounted.line() == "y: at work, 7 s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
