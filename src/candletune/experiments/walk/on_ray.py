"""Working on folds as tasks of a Ray cluster, with a GPU each where there are any."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from candletune.console import Reporter, SilentReporter
from candletune.experiments.cluster import RETRIES, connect, gpus_each
from candletune.experiments.walk.folds import Fold, Part
from candletune.experiments.walk.spread import Ended, Spread, attempt


class _Kept(SilentReporter):
    """Keeps what is said, for the process that asked."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        """See `Reporter`."""
        self.said.append(message)

    def warn(self, message: str) -> None:
        """See `Reporter`."""
        self.said.append(f"warning: {message}")


def _work(fold: Fold, part: Part) -> Ended:
    """In a worker."""
    kept = _Kept()
    return replace(attempt(fold, part, kept), said=tuple(kept.said))


def on_ray(address: str) -> Spread:
    """Folds as tasks; one whose process or node is lost is begun again, and goes on from what is on disk.

    Every node must see the run folder, candles and base under the same paths. Trainings that go on from the period
    before (`walk.warm_start`) wait for one another.

    Args:
        address: see `cluster.connect`.
    """

    def spread(folds: Sequence[Fold], part: Part, reporter: Reporter) -> Iterator[Ended]:
        ray = connect(address)
        gpus = gpus_each(ray, not folds[0].boosting)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_work)
        names = {fold.period.number: fold.period.name for fold in folds}
        one_at_a_time = part == "train" and folds[0].config.walk.warm_start
        for group in [[fold] for fold in folds] if one_at_a_time else [folds]:
            for ended in _ends(ray, {task.remote(fold, part): fold for fold in group}):
                for line in ended.said:
                    reporter.say(f"{names[ended.number]}  {line}")
                yield ended

    return spread


def _ends(ray: Any, waiting: dict[Any, Fold]) -> Iterator[Ended]:
    """Each task's end, as soon as there is one."""
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            fold = waiting.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())[:200]
                yield Ended(fold.period.number, f"its worker was lost {RETRIES + 1} times ({reason})", 1)
