"""Progress without a terminal: lines for a log file."""

import io
import re
import threading

import pytest
from rich.console import Console

from candletune.console import Pace, RichReporter, duration


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
