"""Working on folds: one after another, and what a failed one says."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from candletune.console import Reporter, Said, Task
from candletune.errors import CandletuneError
from candletune.experiments.walk.folds import Fold, Part, work_on
from candletune.process import machine_says


@dataclass(frozen=True, slots=True)
class Ended:
    """How work on a fold ended.

    Attributes:
        number: the period's.
        problem: why it failed, in one line; empty: it did not.
        exit_code: of the failure.
        said: what was said on the way, where that was in another process.
    """

    number: int
    problem: str = ""
    exit_code: int = 0
    said: tuple[Said, ...] = ()


Spread = Callable[[Sequence[Fold], Part, Reporter], Iterator[Ended]]
"""Works on a part of every fold, in any order; an end as soon as there is one."""


def one_by_one(folds: Sequence[Fold], part: Part, reporter: Reporter) -> Iterator[Ended]:
    """The folds in this process, one after another."""
    for fold in folds:
        yield attempt(fold, part, PeriodReporter(reporter, fold.period.name))


def attempt(fold: Fold, part: Part, reporter: Reporter, *, patience: float = 0.0) -> Ended:
    """A part of a fold; whatever goes wrong is said and ends this fold alone, but an interruption ends all."""
    number = fold.period.number
    try:
        work_on(fold, part, reporter, patience=patience)
    except CandletuneError as error:
        return Ended(number, str(error), error.exit_code)
    except Exception as error:  # one period's trouble, whatever it is, leaves the others their hours of work
        text = machine_says(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Ended(number, text, 1)
    return Ended(number)


class PeriodReporter:
    """Says of which period a message is."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self._reporter, self._name = reporter, name

    def say(self, message: str) -> None:
        """See `Reporter`."""
        self._reporter.say(f"{self._name}  {message}")

    def warn(self, message: str) -> None:
        """See `Reporter`."""
        self._reporter.warn(f"{self._name}: {message}")

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """See `Reporter`."""
        with self._reporter.task(f"{self._name} {title}", total) as task:
            yield task

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        """See `Reporter`."""
        with self._reporter.working(title):
            yield


class FoldsFailed(CandletuneError):
    """Some periods failed; each is a line of its own.

    Attributes:
        exit_code: the first one's.
    """

    def __init__(self, failed: Sequence[tuple[str, Ended]], done: int) -> None:
        self._lines = [f"period {name}: {ended.problem}" for name, ended in failed]
        self._lines.append(
            f"{len(failed)} of {len(failed) + done} periods failed; the others are done and stay: mend the cause and "
            "run the same command again"
        )
        self.exit_code = failed[0][1].exit_code
        super().__init__("; ".join(self._lines))

    @property
    def lines(self) -> list[str]:
        """One line a period, and what to do."""
        return self._lines
