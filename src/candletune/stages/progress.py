"""What a run folder is doing right now, in a small file beside its lock, so that `status` can say it.

The file names the process that wrote it and when that process began: a process that was killed leaves its file, and a
number that the system has given away again is not taken for it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from candletune.console import Pace, Reporter, Task, duration
from candletune.files import remove, write_text
from candletune.runs import RunFolder

EVERY = 2.0
"""Seconds between two writes, at least."""


class StageProgress(BaseModel):
    """How far a running stage is.

    Attributes:
        stage: its name.
        task: what it works on now, in words; empty between two tasks.
        done: steps of the task so far.
        total: steps of the task; none: unknown.
        note: such as the current loss.
        seconds_left: of the task, at its mean pace; none: unknown.
        started: when the stage began.
        updated: when this was written.
        pid: the process.
        process_started: when that process began, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    version: int = 1
    stage: str
    task: str = ""
    done: float = 0.0
    total: float | None = None
    note: str = ""
    seconds_left: float | None = None
    started: datetime
    updated: datetime
    pid: int
    process_started: float

    @property
    def alive(self) -> bool:
        """Whether the process that wrote it still runs."""
        try:
            began: float = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return False
        return abs(began - self.process_started) < 1.0

    def describe(self) -> str:
        """Such as `training: 120 of 300 (40%), about 3 min 20 s left; loss 0.41`."""
        if not self.task:
            return f"since {self.started:%Y-%m-%d %H:%M} UTC"
        of = f" of {self.total:g} ({self.done / self.total:.0%})" if self.total else ""
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"{self.task}: {self.done:g}{of}{left}" + (f"; {self.note}" if self.note else "")


def read_progress(run: RunFolder) -> StageProgress | None:
    """What was written last; None when no stage has begun or the last one ended, or the file is broken."""
    try:
        return StageProgress.model_validate_json(run.progress.read_bytes())
    except (OSError, ValidationError):
        return None


class ProgressReporter:
    """Passes everything on to another reporter, and keeps the progress file while a stage works."""

    def __init__(self, reporter: Reporter, run: RunFolder, stage: str) -> None:
        self._reporter, self._path, self._stage = reporter, run.progress, stage
        self._started, self._written = datetime.now(UTC), 0.0
        self._process_started = psutil.Process().create_time()
        self.write(None)

    def say(self, message: str) -> None:
        self._reporter.say(message)

    def warn(self, message: str) -> None:
        self._reporter.warn(message)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        pace = Pace(title, total)
        self.write(pace)
        with self._reporter.task(title, total) as task:
            yield _KeptTask(self, task, pace)
        self.write(None)

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        with self._reporter.working(title):
            yield

    def write(self, pace: Pace | None) -> None:
        """Write the file now; a disk that refuses must not stop the work, whose own writing will say so."""
        task = {} if pace is None else {key: getattr(pace, key) for key in ("done", "total", "note", "seconds_left")}
        progress = StageProgress(
            stage=self._stage,
            task="" if pace is None else pace.title,
            started=self._started,
            updated=datetime.now(UTC),
            pid=os.getpid(),
            process_started=self._process_started,
            **task,
        )
        self._written = time.monotonic()
        try:
            write_text(self._path, progress.model_dump_json(indent=2) + "\n")
        except OSError:
            return

    def write_sometimes(self, pace: Pace) -> None:
        """Write the file unless it was written a moment ago."""
        if time.monotonic() - self._written >= EVERY:
            self.write(pace)


class _KeptTask:
    def __init__(self, owner: ProgressReporter, task: Task, pace: Pace) -> None:
        self._owner, self._task, self._pace = owner, task, pace

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        self._pace.advance(steps, note)
        self._task.advance(steps, note)
        self._owner.write_sometimes(self._pace)

    def resume(self, done: float) -> None:
        self._pace.resume(done)
        self._task.resume(done)
        self._owner.write(self._pace)


@contextmanager
def keep_progress(reporter: Reporter, run: RunFolder, stage: str) -> Iterator[Reporter]:
    """A reporter that keeps the progress file for the block; the file goes when the block ends, however it ends."""
    path: Path = run.progress
    try:
        with reporter.working(stage):
            yield ProgressReporter(reporter, run, stage)
    finally:
        remove(path)
