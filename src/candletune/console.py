"""What a stage may say while it works: messages, warnings and progress bars, on standard error.

Standard output belongs to results (`signal` answers JSON there), so nothing here writes to it.
"""

import json
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Task(Protocol):
    """One progress bar."""

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        """Move the bar by `steps`; `note` is a short live text such as the current loss."""

    def resume(self, done: float) -> None:
        """Begin behind steps that an earlier process did: they are done, and say nothing of the pace."""


class Reporter(Protocol):
    """Where a stage reports to. Stages never print by themselves."""

    def say(self, message: str) -> None:
        """One line of information."""

    def warn(self, message: str) -> None:
        """One line the user should act on or know about."""

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """A progress bar for the duration of the block; `total=None` shows a spinner."""
        yield _SilentTask()

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        """Work that may be long between its tasks: a log file hears that it goes on."""
        yield


class _SilentTask:
    def advance(self, steps: float = 1.0, note: str = "") -> None:
        pass

    def resume(self, done: float) -> None:
        pass


class SilentReporter:
    """Says nothing but keeps the warnings; for tests and library use."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        yield _SilentTask()

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        yield


Said = tuple[str, str]
"""`info` or `warning`, and a message."""


class RecordingReporter(SilentReporter):
    """Keeps messages and warnings in order, for another process to say (`repeat`)."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[Said] = []

    def say(self, message: str) -> None:
        self.said.append(("info", message))

    def warn(self, message: str) -> None:
        super().warn(message)
        self.said.append(("warning", message))


def repeat(said: Iterable[Said], reporter: Reporter) -> None:
    """Say what another process said."""
    for level, message in said:
        (reporter.warn if level == "warning" else reporter.say)(message)


class _RichTask:
    def __init__(self, progress: Progress, task_id: int) -> None:
        self._progress, self._id = progress, task_id

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        self._progress.update(self._id, advance=steps, note=note)  # type: ignore[arg-type]

    def resume(self, done: float) -> None:
        self._progress.reset(self._id, completed=int(done))  # type: ignore[arg-type]


class Pace:
    """How far a task is, and how fast.

    Attributes:
        title: what a person reads.
        total: steps; none: unknown.
        done: steps so far, those of an earlier process among them.
        note: the latest live text.
    """

    def __init__(self, title: str, total: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.total, self.done, self.note = title, total, 0.0, ""
        self._clock, self._began, self._before = clock, clock(), 0.0

    def resume(self, done: float) -> None:
        """See `Task`."""
        self.done = self._before = done

    def advance(self, steps: float, note: str) -> None:
        """Count steps; an empty note keeps the one before."""
        self.done, self.note = self.done + steps, note or self.note

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """At the mean pace so far; None where nothing is known yet."""
        made = self.done - self._before
        return None if not self.total or made <= 0 else self.seconds * max(0.0, self.total - self.done) / made

    def line(self) -> str:
        """Done, rate and time left, in one line; where nothing can be counted yet, how long it has been at work."""
        if not self.total and not self.done:
            return f"{self.title}: at work, {duration(self.seconds)}"
        of = f" of {self.total:g} ({self.done / self.total:.0%})" if self.total else ""
        parts = [f"{self.done:g}{of}"]
        if self.done > self._before and self.seconds > 0:
            parts.append(_rate((self.done - self._before) / self.seconds))
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return f"{self.title}: " + ", ".join([*parts, *([self.note] if self.note else [])])


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rate(a_second: float) -> str:
    return f"{a_second:.3g}/s" if a_second >= 1 else f"{1 / a_second:.3g} s each"


class _PacedTask:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        self._pace.advance(steps, note)

    def resume(self, done: float) -> None:
        self._pace.resume(done)


class Ticks:
    """Time as a log file's lines need it; tests bring their own."""

    def now(self) -> float:
        """Seconds, of any beginning."""
        return time.monotonic()

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        """Sleep so long, or until `ended` is set; whether it is."""
        return ended.wait(seconds)


class JsonReporter(SilentReporter):
    """An object a line on standard error: `at`, `level` (`info`, `warning`) and `message`; no bars."""

    def say(self, message: str) -> None:
        log_line("info", message)

    def warn(self, message: str) -> None:
        log_line("warning", message)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        self.say(f"{title}: started")
        yield _SilentTask()
        self.say(f"{title}: done")


def log_line(level: str, message: str) -> None:
    """Write one line of the log as JSON."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": message}
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stderr.flush()


class RichReporter:
    """Progress bars and messages through rich, on standard error.

    Where that is no terminal (a log file, cron, a pipe) a bar would be lost, so that each task says when it begins and
    ends, and how far it is every `every` seconds.
    """

    def __init__(self, console: Console | None = None, *, every: float = 30.0, ticks: Ticks | None = None) -> None:
        self.console, self._every, self._ticks = console or Console(stderr=True), every, ticks or Ticks()
        self._tasks = 0  # open now

    def say(self, message: str) -> None:
        text = in_lines(from_here(message), self.console)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        text = _escape(in_lines(f"warning: {from_here(message)}", self.console).removeprefix("warning:"))
        self.console.print(f"[bold yellow]warning:[/]{text}", highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        with self._bar(title, total) if self.console.is_terminal else self._lines(title, total) as task:
            yield task

    @contextmanager
    def _bar(self, title: str, total: float | None) -> Iterator[Task]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield _RichTask(progress, progress.add_task(title, total=total, note=""))

    @contextmanager
    def _lines(self, title: str, total: float | None) -> Iterator[Task]:
        pace = Pace(title, total, self._ticks.now)
        self.say(f"{title}: started" + (f", {total:g} to do" if total else ""))
        self._tasks += 1
        try:
            with self._repeated("progress", pace.line):
                yield _PacedTask(pace)
        except BaseException:
            self.say(
                f"{title}: stopped after {duration(pace.seconds)}" + (f", {pace.done:g} done" if pace.done else "")
            )
            raise
        else:
            counted = f", {pace.done:g}" if pace.done else ""
            self.say(f"{title}: done{counted} in {duration(pace.seconds)}")
        finally:
            self._tasks -= 1

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        pace = Pace(title, None, self._ticks.now)
        if self.console.is_terminal:
            yield
            return
        with self._repeated("working", lambda: None if self._tasks else f"{title}: at work, {duration(pace.seconds)}"):
            yield

    @contextmanager
    def _repeated(self, name: str, line: Callable[[], str | None]) -> Iterator[None]:
        """Say a line (None: nothing) every so many seconds, from a thread of that name."""
        ended = threading.Event()

        def tell() -> None:
            while not self._ticks.wait(ended, self._every):
                if (text := line()) is not None:
                    self.say(text)

        teller = threading.Thread(target=tell, name=name, daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()


def from_here(text: str) -> str:
    """A text for a person in a terminal: paths inside the working folder are shown from there on.

    Only where a path begins: not in a URL, not within another path, and not in quotation marks, since what stands there
    is to be pasted into a file that may lie elsewhere.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return text
    inside = re.escape(f"{here}{os.sep}")
    return text if here == here.parent else re.sub(rf"(^|[\s(\[=,`]){inside}", r"\1", text)


def in_lines(text: str, console: Console) -> str:
    """On a terminal lines break between words, and a word longer than a line stays whole (a path is copied as one);
    in a file a message is one line."""
    if not console.is_terminal:
        return text
    return "\n".join(
        textwrap.fill(line, console.width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)
        if len(line) > console.width
        else line
        for line in text.split("\n")
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
