"""Whole pieces of work, such as a walk's periods and a sweep's trials, as tasks of a Ray cluster: a GPU or cores each.

A task whose worker is lost is begun again by Ray. What it had finished lies in its run folder, so it goes on there.
Files are shared, not sent: a cluster of several hosts needs the run folder on storage that all of them see.
"""

import os
import platform
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from candletune import __version__
from candletune.config import Config
from candletune.errors import CandletuneError, UsageError
from candletune.files import remove, write_text
from candletune.stages.ray_cluster import RETRIES, connected, hosts, places

PATIENCE: Final = 60.0
"""Seconds that a task waits for its run folder, in which a worker that was given up may not have ended yet."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker must have in common with the process that asks.

    Attributes:
        version: candletune's.
        here: the working folder, to which paths of the configuration are relative.
        mark: a file below the folder that is shared.
        token: its content.
    """

    version: str
    here: Path
    mark: Path
    token: str

    def enter(self) -> None:
        """Make sure of all that, and work where the asking process works.

        Raises:
            UsageError: the worker has another candletune, or does not see the folder.
        """
        if self.version != __version__:
            raise UsageError(f"--ray: a worker has candletune {__version__}, {self.version} asks; install the same")
        try:
            seen = self.mark.read_text(encoding="utf-8") == self.token and self.here.is_dir()
        except OSError:
            seen = False
        if not seen:
            raise UsageError(
                f"--ray: host {platform.node()} does not see {self.mark.parent} and {self.here}; put them on storage "
                "that all hosts have at the same path"
            )
        os.chdir(self.here)


@dataclass(frozen=True, slots=True)
class Lost:
    """A task whose workers were lost too often; `reason` is Ray's."""

    reason: str


class Tasks:
    """Work under way on a cluster.

    Attributes:
        places: tasks that there is room for.
        hosts: of the cluster.
    """

    def __init__(self, ray: Any, site: Site, cores: int, name: str) -> None:
        self.places, needs = places(ray, cores)
        self.hosts = hosts(ray)
        self._ray, self._site = ray, site
        self._made = ray.remote(max_retries=RETRIES, **needs)(_entered).options(name=name)
        self._under_way: dict[Any, int] = {}

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._under_way)

    def begin(self, number: int, work: Callable[..., Any], *arguments: Any) -> None:
        """Have `work(*arguments)` done when there is room; `work` is a function of a module."""
        self._under_way[self._made.remote(self._site, work, arguments)] = number

    def ended(self) -> list[tuple[int, Any]]:
        """Wait until something is done: its number, and what `work` returned or `Lost`.

        Raises:
            CandletuneError: what `work` raised.
        """
        done, _ = self._ray.wait(list(self._under_way), num_returns=1)
        return [(self._under_way.pop(reference), self._result(reference)) for reference in done]

    def beside(self, made: type, name: str) -> None:
        """An actor of a class, found by its name, on the host that asks, for as long as the tasks."""
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        self._actor = self._ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(made).remote()

    def stop(self) -> None:
        """End what is under way, with its workers."""
        for reference in self._under_way:
            self._ray.cancel(reference, force=True)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CandletuneError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            return Lost(f"its workers were lost {RETRIES + 1} times ({reason}); run the same command again")


def _entered(site: Site, work: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    site.enter()
    return work(*arguments)


def without_messages(config: Config) -> Config:
    """What may go to a worker: addresses for messages to people stay in the process that asks."""
    return config.model_copy(update={"notify": type(config.notify)(events=())})


@contextmanager
def ray_tasks(address: str, folder: Path, cores: int, name: str) -> Iterator[Tasks]:
    """Tasks on a Ray cluster; what is under way at the end is ended.

    Args:
        address: see `connected`.
        folder: all that is read and written lies in it or is found from any host; the caller holds its lock.
        cores: of a task where the cluster has no GPUs; 0: all of a host.
        name: of the tasks, as Ray's own tools show it.

    Raises:
        UsageError: there is no Ray or no cluster.
    """
    site = Site(__version__, Path.cwd(), (folder / ".ray").absolute(), uuid.uuid4().hex)
    with connected(address) as ray:
        write_text(site.mark, site.token)
        tasks = Tasks(ray, site, cores, name)
        try:
            yield tasks
        finally:
            tasks.stop()
            remove(site.mark)
