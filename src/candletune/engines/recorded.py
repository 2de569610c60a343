"""An engine whose scores are known before: what it was not told, and every text, comes from another engine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from candletune.decisions import DECISIONS, Decision
from candletune.engines import Engine, Generation

Known = Mapping[str, NDArray[np.float64]]
"""Probabilities (3,) by prompt."""


class RecordedEngine:
    """See `candletune.engines.Engine`. The other engine is opened when it is first needed, and closed with this one."""

    def __init__(self, behind: Callable[[], Engine]) -> None:
        self._behind = behind
        self._opened: Engine | None = None
        self._adapters: dict[str, Path] = {}
        self._active: str | None = None
        self._known: dict[str | None, Known] = {}

    def record(self, adapter: str | None, known: Known) -> None:
        """Take an adapter's scores (None: the bare base's)."""
        self._known[adapter] = known

    def add_adapter(self, name: str, path: Path) -> None:
        """See the protocol; one that is there already stays."""
        if name in self._adapters:
            return
        if self._opened is not None:
            self._opened.add_adapter(name, path)
        self._adapters[name] = path

    def use(self, name: str | None) -> None:
        """See the protocol."""
        self._active = name

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        return self.asked.prompt_ids(prompt)

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol."""
        known = self._known.get(self._active, {})
        unknown = [prompt for prompt in prompts if prompt not in known]
        asked = iter(self.asked.score(unknown) if unknown else ())
        rows = [known[prompt] if prompt in known else next(asked) for prompt in prompts]
        return np.array(rows, dtype=np.float64).reshape(len(prompts), len(DECISIONS))

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol."""
        return self.asked.generate(prompt, action=action)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """See the protocol."""
        return self.asked.generate_all(prompts, actions)

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """See the protocol."""
        self.asked.stop_when(asked)

    def close(self) -> None:
        """See the protocol."""
        if self._opened is not None:
            self._opened.close()
        self._opened, self._known = None, {}

    @property
    def asked(self) -> Engine:
        """The other engine, with this one's adapter in use."""
        if self._opened is None:
            self._opened = self._behind()
            for name, path in self._adapters.items():
                self._opened.add_adapter(name, path)
        self._opened.use(self._active)
        return self._opened
