"""Who works on a sweep's trials: this process, one after another, or with `sweep.ray` tasks of a Ray cluster."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.console import RecordingReporter, Reporter, Said, repeat
from candletune.experiments.board import Board
from candletune.experiments.pruning import Curve
from candletune.experiments.trial import Job, run_trial
from candletune.experiments.trial_record import failed
from candletune.runs import RunFolder
from candletune.stages.ray_cluster import told
from candletune.stages.ray_tasks import PATIENCE, Lost, Tasks, ray_tasks, without_messages


class Workers(Protocol):
    """Work on trials."""

    @property
    def board(self) -> "Board | BoardOnRay":
        """The trials' curves, where these workers find them."""

    @property
    def free(self) -> bool:
        """Whether another trial may be begun."""

    @property
    def busy(self) -> bool:
        """Whether a trial is under way."""

    def begin(self, job: Job) -> None:
        """Have a trial done."""

    def ended(self) -> list[tuple[int, Trial]]:
        """Wait until at least one is done: its place, and its record."""


class Alone:
    """This process, a trial at a time. See `Workers`."""

    def __init__(self, reporter: Reporter) -> None:
        self.board = Board()
        self._reporter = reporter
        self._jobs: list[Job] = []

    @property
    def free(self) -> bool:
        return not self._jobs

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def begin(self, job: Job) -> None:
        self._jobs.append(job)

    def ended(self) -> list[tuple[int, Trial]]:
        job = self._jobs.pop()
        return [(job.place, run_trial(job, self._reporter))]


@dataclass(frozen=True, slots=True)
class BoardOnRay:
    """A `Board` beside the process that asks, for workers anywhere."""

    name: str

    def look(self, place: int, rows_sha256: str, curve: Curve) -> int | None:
        """See `Board`."""
        return self._told("look", place, rows_sha256, curve)

    def ended(self, place: int, trial: Trial, curve: Curve) -> None:
        """See `Board`."""
        self._told("ended", place, trial, curve)

    def hopeless(self, place: int) -> int | None:
        """See `Board`."""
        return self._told("hopeless", place)

    def _told(self, method: str, *arguments: object) -> int | None:
        import ray

        found: int | None = told(getattr(ray.get_actor(self.name), method), *arguments)
        return found


class OnRay:
    """Tasks of a cluster. See `Workers`."""

    free = True
    """What there is no room for waits there."""

    def __init__(self, tasks: Tasks, reporter: Reporter) -> None:
        self.board = BoardOnRay(f"candletune-{uuid.uuid4().hex}")
        tasks.beside(Board, self.board.name)
        self._tasks, self._reporter = tasks, reporter
        self._jobs: dict[int, Job] = {}

    @property
    def busy(self) -> bool:
        return self._tasks.busy

    def begin(self, job: Job) -> None:
        self._jobs[job.place] = job
        self._tasks.begin(job.place, trial_task, replace(job, config=without_messages(job.config), patience=PATIENCE))

    def ended(self) -> list[tuple[int, Trial]]:
        found = []
        for place, result in self._tasks.ended():
            job = self._jobs.pop(place)
            if isinstance(result, Lost):
                found.append((place, failed(job.trial, result.reason)))
            else:
                repeat(result[1], self._reporter)
                found.append((place, result[0]))
        return found


def trial_task(job: Job) -> tuple[Trial, list[Said]]:
    """A trial, in a worker; and what was said."""
    heard = RecordingReporter()
    return run_trial(job, heard), heard.said


@contextmanager
def working(config: Config, home: RunFolder, reporter: Reporter) -> Iterator[Workers]:
    """Whoever works on the trials.

    Args:
        config: the sweep's.
        home: the sweep's folder, below the run folder whose lock the caller holds.
        reporter: told how many trials there is room for.

    Raises:
        UsageError: there is no Ray or no cluster.
    """
    if not config.sweep.ray:
        yield Alone(reporter)
        return
    cores = 1 if config.sweep.model == "boosting" else config.engine.threads
    with ray_tasks(config.sweep.ray, home.path, cores, "candletune sweep") as tasks:
        reporter.say(f"sweep: {tasks.places} trials at a time, on {tasks.hosts} hosts of Ray")
        yield OnRay(tasks, reporter)
