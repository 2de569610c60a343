"""Progress without a terminal: lines for a log file."""

import io
import queue
import re
import threading

import pytest
from rich.console import Console

from candletune.console import Pace, RichReporter, Ticks, duration


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
    assert threading.active_count() == len([thread for thread in threading.enumerate() if thread.name != "progress"])


class FakeTicks(Ticks):
    """A clock that stands until the test lets time pass; the reporter's lines come at that moment."""

    def __init__(self) -> None:
        self.time, self.asked = 0.0, queue.SimpleQueue[float]()
        self.woken = queue.SimpleQueue[bool]()

    def now(self) -> float:
        return self.time

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        self.asked.put(seconds)  # whatever was to be said is said by now
        return self.woken.get(timeout=20)

    def pass_a_line(self) -> None:
        """Let the reporter's whole wait pass."""
        self.time += self.asked.get(timeout=20)
        self.woken.put(False)


def test_every_thirty_seconds_a_log_file_hears_done_rate_and_time_left() -> None:
    out, ticks = io.StringIO(), FakeTicks()
    with RichReporter(Console(file=out, width=200), ticks=ticks).task("replay", 1000) as task:
        task.resume(400)
        ticks.pass_a_line()
        ticks.pass_a_line()
        assert ticks.asked.get(timeout=20) == 30
        task.advance(100, "loss 0.4")
        ticks.time += 40
        ticks.asked.put(30)
        ticks.pass_a_line()
        assert ticks.asked.get(timeout=20) == 30
        ticks.woken.put(True)
    assert out.getvalue().splitlines() == [
        "replay: started, 1000 to do",
        "replay: 400 of 1000 (40%)",
        "replay: 400 of 1000 (40%)",
        "replay: 500 of 1000 (50%), 1.3 s each, about 10 min 50 s left, loss 0.4",
        "replay: done, 500 in 2 min 10 s",
    ]


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
    assert Pace("y", None, clock=lambda: now[0]).line() == "y: 0"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
