"""Engines score the decision from its logits and generate a reason: llama.cpp, its server, Transformers; one protocol.

An engine is a file here with an `ENGINE`; `tests/engines/test_shared.py` holds all of them to the same tests.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from candletune.base.find import base_gguf
from candletune.config import Config
from candletune.decisions import Decision
from candletune.errors import CandletuneError
from candletune.runs import RunFolder

__all__ = ["Engine", "EngineKind", "Generation", "Stopped", "base_gguf", "beginning_of", "open_copies", "open_engine"]

MOST_COPIES = 16
"""More than so many are not opened unless they are asked for."""


class Stopped(CandletuneError):
    """An engine ended its work in the middle, because `stop_when` said so; it can be asked again at once."""

    def __init__(self) -> None:
        super().__init__("stopped before it had answered")


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated answer.

    Attributes:
        text: the whole answer, without the end token.
        ended: the model ended it by itself (the end-of-sequence token), rather than the length limit.
        tokens: how many were generated.
    """

    text: str
    ended: bool
    tokens: int


class Engine(Protocol):
    """One base model in memory with any number of adapters, of which none or one is in use."""

    def add_adapter(self, name: str, path: Path) -> None:
        """Load an adapter under a name.

        Raises:
            InputError: missing, broken, or of another base model.
        """

    def use(self, name: str | None) -> None:
        """Switch to an adapter, or with None to the bare base. No keys and values computed under another are ever used.

        Raises:
            InputError: no adapter of that name was added.
        """

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of everything before the answer, one BOS at the start.

        Raises:
            InputError: the prompt carries a control token or is longer than the context.
        """

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities of BUY, SELL and HOLD at the decision token, shape (n, 3), renormalised over the three."""

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """Write an answer; with `action` the decision is given and only the reason is written."""

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """As `generate` of each prompt with its decision; several at a time where the engine can."""

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """Ask this often while working, and raise Stopped once it is true; None: never (as at the start)."""

    def close(self) -> None:
        """Free the model."""


@dataclass(frozen=True, slots=True)
class EngineKind:
    """How an engine is had: the `ENGINE` of its file.

    Attributes:
        open: over a base, with nothing in use.
        files: what base and adapters are: GGUF files, or folders as Transformers and PEFT write them.
    """

    open: Callable[[Config, Path], Engine]
    files: Literal["gguf", "folder"]


def beginning_of(config: Config) -> str:
    """What every prompt of the configured template begins with: its text before the first field or statement."""
    from candletune.prompts.template import load_template

    return re.split(r"\{[{%#]", load_template(config.prompt.template).text, maxsplit=1)[0].lstrip()


def open_engine(config: Config, run: RunFolder, base: Path | None = None) -> Engine:
    """Over the configured base, or over another GGUF: whatever is replayed and served is opened here.

    llama.cpp in this process, or the servers of `engine.url`.

    Raises:
        InputError: there is no base GGUF, or llama.cpp cannot load it; or a server does not serve it.
    """
    from candletune.engines import http, llama_cpp

    kind = http.ENGINE if config.engine.url else llama_cpp.ENGINE
    return kind.open(config, base or base_gguf(config, run))


def open_copies(config: Config, run: RunFolder, base: Path | None = None) -> Engine:
    """As `open_engine`; `replay.copies` of llama.cpp side by side where it works on this machine's processor.

    Raises:
        InputError: as `open_engine`.
    """
    from llama_cpp import llama_supports_gpu_offload

    from candletune.engines.copies import Copies

    cores = os.cpu_count() or 1
    count = config.replay.copies or min(MOST_COPIES, cores)
    if count == 1 or config.engine.url or llama_supports_gpu_offload():
        return open_engine(config, run, base)
    if not config.engine.threads:  # all cores, which they share: each taking all of them would wait for the others
        engine = config.engine.model_copy(update={"threads": max(1, cores // count)})
        config = config.model_copy(update={"engine": engine})
    return Copies([open_engine(config, run, base) for _ in range(count)])
