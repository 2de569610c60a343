"""What hears a trial's stages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from candletune.console import Reporter
from candletune.console import Task as Bar

TRAINING = "training"
"""The task that a training's steps are counted by."""


class _Watched:
    """A training's progress bar, which looks at what was logged behind every evaluation."""

    def __init__(self, bar: Bar, every: int, look: Callable[[], None]) -> None:
        self._bar, self._every, self._look, self._done = bar, every, look, 0

    def resume(self, done: float) -> None:
        self._done = int(done)
        self._bar.resume(done)

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        # An evaluation follows the step that it is due at, so it is on disk when the next step ends.
        if self._every and self._done and self._done % self._every == 0:
            self._look()
        self._done += int(steps)
        self._bar.advance(steps, note)


class TrialReporter:
    """Hears a trial's stages: warnings and bars go on, messages stay out of the sweep's own; stops what is hopeless."""

    def __init__(self, reporter: Reporter, every: int, look: Callable[[], None]) -> None:
        self._reporter, self._every, self._look = reporter, every, look

    def say(self, message: str) -> None:
        """Nothing: the sweep says a line a trial."""

    def warn(self, message: str) -> None:
        self._reporter.warn(message)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Bar]:
        with self._reporter.task(title, total) as bar:
            yield _Watched(bar, self._every, self._look) if title == TRAINING else bar

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        with self._reporter.working(title):
            yield
