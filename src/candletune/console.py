"""What a stage may say while it works: messages, warnings and progress bars, on standard error.

Standard output belongs to results (`signal` answers JSON there), so nothing here writes to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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


class _SilentTask:
    def advance(self, steps: float = 1.0, note: str = "") -> None:
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


class _RichTask:
    def __init__(self, progress: Progress, task_id: int) -> None:
        self._progress, self._id = progress, task_id

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        self._progress.update(self._id, advance=steps, note=note)  # type: ignore[arg-type]


class RichReporter:
    """Progress bars and messages through rich, on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, message: str) -> None:
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        self.console.print(f"[bold yellow]warning:[/] {_escape(message)}", highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
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


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
