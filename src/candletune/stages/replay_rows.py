"""A replay's rows, a shard after the other: asked of the models by whoever works on them, and written in order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import Model, Prediction, Predictor
from candletune.engines import Engine, open_engine
from candletune.engines.recorded import RecordedEngine
from candletune.journal import Journal, Row, Side
from candletune.runs import RunFolder

BATCH = 64
"""Rows of a shard: scored, and written with one fsync, at a time."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Prompts for some models.

    Attributes:
        models: each is asked all prompts, one model after the other.
        prompts: rendered.
        reasons: numbers of the prompts that get a reason.
    """

    models: tuple[Model, ...]
    prompts: tuple[str, ...]
    reasons: frozenset[int] = frozenset()


Answers = list[list[Prediction]]
"""Of each of a shard's models, one for each prompt."""
Ask = Callable[[Iterable[Shard]], Iterator[Answers]]
"""Gives the answers to each shard, in the shards' order."""


def answers(predictor: Predictor, shard: Shard) -> Answers:
    """What a shard's models say, in this process."""
    return [predictor.predict(model, shard.prompts, reasons=shard.reasons) for model in shard.models]


@contextmanager
def asking(
    config: Config, run: RunFolder, predictor: Predictor, pair: Sequence[Model], reporter: Reporter
) -> Iterator[Ask]:
    """Whoever works on shards: this process's predictor, or with `replay.ray` workers of a Ray cluster."""
    if config.replay.ray:
        from candletune.stages.replay_ray import ray_workers

        with ray_workers(config, run, pair, reporter) as ask:
            yield ask
    else:
        yield lambda shards: (answers(predictor, shard) for shard in shards)


def unopened(config: Config, run: RunFolder) -> Callable[[Path | None], Engine] | None:
    """Where workers answer: engines of this process that are opened when they are first asked, which is never."""
    if not config.replay.ray:
        return None
    return lambda path: RecordedEngine(lambda: open_engine(config, run, path))


@dataclass(frozen=True, slots=True)
class RowWriter:
    """Asks incumbent and candidate about rows, and writes their answers.

    Attributes:
        rows: decision_time, asset, close, prompt, prompt_sha256.
        pair: incumbent and candidate.
        reasons: numbers of the rows that get a reason.
        latency_ms: milliseconds that each decision took before it was written.
        template_sha256: of the prompt template.
        base_sha256: of the base's GGUF.
        forced: whether the training saw some of the rows.
    """

    rows: pl.DataFrame
    pair: tuple[Model, Model]
    reasons: Sequence[int]
    latency_ms: float
    template_sha256: str
    base_sha256: str
    forced: bool

    def write(self, path: Path, done: int, ask: Ask) -> Iterator[int]:
        """Write all rows from number `done` on into a journal; yields how many, after each shard."""
        journal = Journal(path)
        starts = range(done, len(self.rows), BATCH)
        for start, (active, shadow) in zip(starts, ask(map(self._shard, starts)), strict=True):
            part = self.rows[start : start + BATCH]
            journal.append_many(
                [
                    Row(
                        timestamp=row["decision_time"],
                        ticker=row["asset"],
                        price=row["close"],
                        prompt_sha256=row["prompt_sha256"],
                        active=self._side(left),
                        shadow=self._side(right),
                        template_sha256=self.template_sha256,
                        base_sha256=self.base_sha256,
                        mode="replay",
                        forced=self.forced,
                    )
                    for row, left, right in zip(part.iter_rows(named=True), active, shadow, strict=True)
                ]
            )
            yield len(part)

    def _shard(self, start: int) -> Shard:
        prompts = self.rows["prompt"][start : start + BATCH].to_list()
        wanted = frozenset(number - start for number in self.reasons if 0 <= number - start < BATCH)
        return Shard(self.pair, tuple(prompts), wanted)

    def _side(self, one: Prediction) -> Side:
        more = None if one.latency_ms is None else one.latency_ms + self.latency_ms
        return replace(one, latency_ms=more).side()
