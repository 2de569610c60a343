"""Several copies of an engine that answer side by side: a small base on a CPU leaves the other cores idle.

Threads of one llama.cpp context wait for each other in a loop at every step, which costs a small model more than it
gains. Copies wait for nothing. Each prompt is read by one of them, alone, so its answer has the same bits.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from candletune.decisions import DECISIONS, Decision
from candletune.engines import Engine, Generation

T = TypeVar("T")


class Copies:
    """See `candletune.engines.Engine`. What is asked of several prompts is dealt out in turn; one goes to the first."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """`engines` are alike; they are closed with this one."""
        self._engines = tuple(engines)
        self._pool = ThreadPoolExecutor(len(self._engines), thread_name_prefix="engine")

    def add_adapter(self, name: str, path: Path) -> None:
        """See the protocol."""
        for engine in self._engines:
            engine.add_adapter(name, path)

    def use(self, name: str | None) -> None:
        """See the protocol."""
        for engine in self._engines:
            engine.use(name)

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        return self._engines[0].prompt_ids(prompt)

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol."""
        count = self._count(prompts)
        found = np.empty((len(prompts), len(DECISIONS)))
        parts = self._each(count, lambda number: self._engines[number].score(prompts[number::count]))
        for number, part in enumerate(parts):
            found[number::count] = part
        return found

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol."""
        return self._engines[0].generate(prompt, action=action)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """See the protocol."""
        count = self._count(prompts)

        def write(number: int) -> list[Generation]:
            return self._engines[number].generate_all(prompts[number::count], actions[number::count])

        parts = self._each(count, write)
        return [parts[row % count][row // count] for row in range(len(prompts))]

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """See the protocol."""
        for engine in self._engines:
            engine.stop_when(asked)

    def close(self) -> None:
        """See the protocol."""
        self._pool.shutdown()
        for engine in self._engines:
            engine.close()

    def _count(self, prompts: Sequence[str]) -> int:
        """Copies that have something to do."""
        return max(1, min(len(self._engines), len(prompts)))

    def _each(self, count: int, work: Callable[[int], T]) -> list[T]:
        """What each copy gives; where one fails, the others have ended too before its error leaves."""
        if count == 1:
            return [work(0)]
        begun = [self._pool.submit(work, number) for number in range(count)]
        errors = [error for future in begun if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in begun]
