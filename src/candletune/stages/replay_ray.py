"""A replay's shards asked of workers of a Ray cluster, a GPU or core each; the process that asks alone writes.

A worker that is lost is started again, and its shard is done again. Answers are handed on in the shards' order, so that
the journal is the one that a single process writes.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from candletune import __version__
from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import Model, Predictor
from candletune.engines import base_gguf, open_engine
from candletune.errors import CandletuneError, InputError, UsageError
from candletune.runs import RunFolder
from candletune.stages.ray_cluster import RETRIES, SharedFile, at_hand, connected, hosts, piece, places, told
from candletune.stages.replay_rows import Answers, Ask, Shard, answers

EACH: Final = 2
"""Shards that a worker has at a time: one under way, one that waits."""
AHEAD: Final = 8
"""Shards a worker that may be done before the one that is written next."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker starts from.

    Attributes:
        config: the whole configuration, without what only the asking process needs.
        version: candletune's.
        base: the base's GGUF.
        template: the prompt template's file; None: the packaged one.
        models: files of adapters and whole models, by hash.
    """

    config: Config
    version: str
    base: SharedFile
    template: SharedFile | None
    models: Mapping[str, SharedFile]


class Desk:
    """An actor beside the asking process: what is to be done, and pieces of the files for it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        files = (job.base, job.template, *job.models.values())
        self._paths = {file.sha256: file.path for file in files if file is not None}

    def job(self) -> Job:
        """What a worker starts from."""
        return self._job

    def read(self, sha256: str, offset: int) -> bytes:
        """A piece of a file."""
        return piece(self._paths[sha256], offset)


class Worker:
    """An actor with an engine of its own, opened when it is first asked."""

    def __init__(self, desk: str) -> None:
        import ray

        self._desk = ray.get_actor(desk)
        self._job: Job = told(self._desk.job)
        self._predictor: Predictor | None = None
        self._paths: dict[str, Path] = {}

    def answers(self, shard: Shard) -> Answers:
        """What the shard's models say."""
        if self._predictor is None:
            self._predictor = self._opened()
        return answers(self._predictor, replace(shard, models=tuple(map(self._here, shard.models))))

    def _opened(self) -> Predictor:
        job = self._job
        if job.version != __version__:
            raise UsageError(f"replay.ray: a worker has candletune {__version__}, {job.version} asks; install the same")
        base = self._at_hand(job.base)
        prompt, run = job.config.prompt, RunFolder(job.config.run.folder)
        if job.template is not None:
            prompt = prompt.model_copy(update={"template": self._at_hand(job.template)})
        config = job.config.model_copy(update={"prompt": prompt})
        return Predictor(config, run, engine=lambda path: open_engine(config, run, path or base))

    def _here(self, model: Model) -> Model:
        if model.sha256 is None:
            return model
        if model.sha256 not in self._paths:
            self._paths[model.sha256] = self._at_hand(self._job.models[model.sha256])
        return replace(model, path=self._paths[model.sha256])

    def _at_hand(self, file: SharedFile) -> Path:
        def read(sha256: str, offset: int) -> bytes:
            found: bytes = told(self._desk.read, sha256, offset)
            return found

        return at_hand(file, read, self._job.config.base.cache.expanduser())


@contextmanager
def ray_workers(config: Config, run: RunFolder, pair: Sequence[Model], reporter: Reporter) -> Iterator[Ask]:
    """Workers on a Ray cluster, who are sent home at the end.

    Args:
        config: the whole configuration; `replay.ray` is the cluster's address.
        run: names the base.
        pair: the models that will be asked, besides the bare base.
        reporter: told how many work.

    Raises:
        UsageError: there is no Ray or no cluster, or `engine.url` is set, too.
    """
    if config.engine.url:
        raise UsageError("replay.ray: engine.url asks servers already; set one of both")
    with connected(config.replay.ray) as ray:
        job = _job(config, run, pair)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        name = f"candletune-{uuid.uuid4().hex}"  # a handle among a worker's arguments would not outlive a restart
        desk = ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(Desk).remote(job)
        count, needs = places(ray, job.config.engine.threads)
        made = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **needs)(Worker)
        workers = [made.remote(name) for _ in range(count)]
        reporter.say(f"replay: {count} workers on {hosts(ray)} hosts of Ray")
        try:
            yield lambda shards: _in_order(ray, workers, shards)
        finally:
            for actor in (*workers, desk):
                ray.kill(actor)


def _job(config: Config, run: RunFolder, pair: Sequence[Model]) -> Job:
    template = config.prompt.template
    engine = config.engine.model_copy(update={"threads": config.engine.threads or 1})
    changed = {"engine": engine, "notify": type(config.notify)()}  # no addresses of messages leave this process
    return Job(
        config=config.model_copy(update=changed),
        version=__version__,
        base=SharedFile.at(base_gguf(config, run)),
        template=None if template is None else SharedFile.at(template),
        models={model.sha256: SharedFile.at(model.path) for model in pair if model.path and model.sha256},
    )


def _in_order(ray: Any, workers: Sequence[Any], shards: Iterable[Shard]) -> Iterator[Answers]:
    """Answers in the shards' order; each worker has its next shard when it is done with one."""
    coming = enumerate(shards)
    under_way: dict[Any, tuple[int, Any]] = {}
    ready: dict[int, Answers] = {}
    free = [*workers] * EACH
    given = written = 0
    while True:
        while free and given < written + AHEAD * len(workers) and (one := next(coming, None)) is not None:
            worker = free.pop(0)
            under_way[worker.answers.remote(one[1])] = one[0], worker
            given += 1
        while written in ready:
            yield ready.pop(written)
            written += 1
        if not under_way:
            return
        done, _ = ray.wait(list(under_way), num_returns=1)
        for reference in done:
            number, worker = under_way.pop(reference)
            ready[number] = _answers(ray, reference)
            free.append(worker)


def _answers(ray: Any, reference: Any) -> Answers:
    try:
        found: Answers = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CandletuneError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"replay.ray: workers were lost {RETRIES + 1} times over the same rows ({reason}); run the same command "
            "again: it goes on after the last row"
        ) from None
    return found
