"""Folds as tasks of a Ray cluster, side by side; without `walk.ray` this process does them one after another."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from candletune.config import Config
from candletune.console import RecordingReporter, Reporter, repeat
from candletune.errors import InputError
from candletune.experiments.walk.folds import Fold, Part
from candletune.experiments.walk.spread import Ended, PeriodReporter, Spread, attempt, one_by_one
from candletune.runs import RunFolder
from candletune.stages.ray_tasks import PATIENCE, Lost, Tasks, ray_tasks, without_messages


@contextmanager
def spreading(config: Config, own: RunFolder, reporter: Reporter) -> Iterator[Spread]:
    """Who works on the folds.

    Args:
        config: the walk's.
        own: the walk's folder, whose lock the caller holds.
        reporter: told how many folds there is room for.

    Raises:
        UsageError: there is no Ray or no cluster.
    """
    if not config.walk.ray:
        yield one_by_one
        return
    cores = 1 if config.walk.model == "boosting" else config.engine.threads
    with ray_tasks(config.walk.ray, own.path, cores, "candletune walk") as tasks:
        reporter.say(f"walk: {tasks.places} periods at a time, on {tasks.hosts} hosts of Ray")
        if config.walk.warm_start:
            reporter.say("walk.warm_start: trainings are done in order, since each goes on from the one before")
        yield partial(side_by_side, tasks)


def side_by_side(tasks: Tasks, folds: Sequence[Fold], part: Part, reporter: Reporter) -> Iterator[Ended]:
    """The folds as tasks; those that need the fold before, when that has ended."""
    in_order = part == "train" and any(fold.config.walk.warm_start for fold in folds)
    waiting = deque(folds)
    with reporter.task(f"periods: {part}", len(folds)) as bar:
        while waiting or tasks.busy:
            while waiting and not (in_order and tasks.busy):
                fold = waiting.popleft()
                sent = replace(fold, config=without_messages(fold.config))
                tasks.begin(fold.period.number, fold_task, sent, part)
            for number, ended in tasks.ended():
                bar.advance()
                if isinstance(ended, Lost):
                    ended = Ended(number, ended.reason, InputError.exit_code)
                repeat(ended.said, reporter)
                yield ended


def fold_task(fold: Fold, part: Part) -> Ended:
    """A part of a fold, in a worker."""
    heard = RecordingReporter()
    ended = attempt(fold, part, PeriodReporter(heard, fold.period.name), patience=PATIENCE)
    return replace(ended, said=tuple(heard.said))
