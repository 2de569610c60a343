"""An engine without a model: answers are a function of prompt and adapter, and faults can be set off."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from candletune.decisions import DECISIONS, Decision
from candletune.engines import Generation, Stopped


class FakeEngine:
    """See `candletune.engines.Engine`. `fault`, when set, is called before the candidate answers."""

    def __init__(self) -> None:
        self.adapters: dict[str, Path] = {}
        self.active: str | None = None
        self.fault: Callable[[], None] | None = None
        self.garbage = False
        self.closed = False
        self.stop: Callable[[], bool] | None = None
        self.switches: list[str | None] = []

    def add_adapter(self, name: str, path: Path) -> None:
        self.adapters[name] = path

    def use(self, name: str | None) -> None:
        assert name is None or name in self.adapters
        self.active = name
        self.switches.append(name)

    def prompt_ids(self, prompt: str) -> list[int]:
        return list(prompt.encode())

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        self._trip()
        if self.garbage and self.active is not None:
            return np.full((len(prompts), 3), np.nan)
        return np.array([self._chances(prompt) for prompt in prompts])

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        self._trip()
        said = action or DECISIONS[int(self._chances(prompt).argmax())]
        return Generation(f"DECISION: {said} - because {self.active or 'base'} says so.", ended=True, tokens=9)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        return [self.generate(prompt, action=action) for prompt, action in zip(prompts, actions, strict=True)]

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        self.stop = asked

    def close(self) -> None:
        self.closed = True

    def _trip(self) -> None:
        if self.active is not None and self.fault is not None:
            self.fault()
        if self.stop is not None and self.stop():
            raise Stopped

    def _chances(self, prompt: str) -> NDArray[np.float64]:
        digest = hashlib.sha256(f"{self.active}{prompt}".encode()).digest()
        weights = np.frombuffer(digest[:3], np.uint8).astype(np.float64) + 1
        found: NDArray[np.float64] = weights / weights.sum()
        return found


def sleepy() -> None:
    time.sleep(0.0005)
