"""What an export answers to held-out prompts, and what the trained model it was made from does.

The two are never in memory at the same time: llama.cpp is closed before Transformers loads anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter
from candletune.engines import Engine, Generation
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.header import read_header

if TYPE_CHECKING:
    from candletune.engines.llama_cpp import LlamaCppEngine

CANDIDATE = "candidate"
PLAIN_TYPES = (0, 1, 32)
"""`general.file_type` of F32, F16 and BF16 models; anything else is quantized."""

AT_ONCE = 10
"""Prompts scored between two steps of the progress."""


class DoesNotLoad(InputError):
    """llama.cpp, or our own check before it, refuses the export; its message is the reason."""


@dataclass(frozen=True, slots=True)
class ExportAnswers:
    """What an export answers.

    Attributes:
        template_sha256: of the template it was trained with, as its file says; `none` when it does not.
        probabilities: of BUY, SELL and HOLD, shape (n, 3).
        bare: the same of the base without the adapter.
        texts: unconstrained answers, greedy, no grammar.
        repeatable: asked again, behind a switch to the bare base and back, the probabilities have the same bits.
        ids: of each prompt.
        quantized: whether the base (or the merged model) is stored in less than 16 bits.
        chat: what it was asked in: `before`, `after`, `end`.
    """

    template_sha256: str
    probabilities: NDArray[np.float64]
    bare: NDArray[np.float64]
    texts: list[Generation]
    repeatable: bool
    ids: list[list[int]]
    quantized: bool
    chat: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReferenceAnswers:
    """What the Transformers model with the trained adapter answers: probabilities (n, 3) and each prompt's ids."""

    probabilities: NDArray[np.float64]
    ids: list[list[int]]


def ask_export(
    exported: Path, base: Path, config: Config, prompts: Sequence[str], reporter: Reporter, *, merged: bool
) -> ExportAnswers:
    """Ask llama.cpp with the export.

    Args:
        exported: LoRA GGUF, or a merged model.
        base: the base's GGUF.
        config: engine settings, with grammar and temperature switched off, and `base.chat`.
        prompts: what is asked.
        reporter: progress.
        merged: whether `exported` is a whole model.

    Raises:
        DoesNotLoad: the export or the base is refused.
        OutOfMemory: card or memory do not hold it.
    """
    settings = config.engine.model_copy(update={"grammar": False, "temperature": 0.0})
    config = config.model_copy(update={"engine": settings})
    bare: NDArray[np.float64] | None = None
    template = _template_of(exported)
    with _llama_cpp(exported if merged else base, config, adapter=None if merged else exported) as engine:
        probabilities = _score(engine, prompts, reporter, "verify: decisions")
        texts = _generate(engine, prompts, reporter)
        if not merged:
            engine.use(None)
            bare = _score(engine, prompts, reporter, "verify: the bare base")
            engine.use(CANDIDATE)
        repeatable = bool(np.array_equal(_score(engine, prompts, reporter, "verify: asked again"), probabilities))
        quantized = engine.base.fields.get("general.file_type") not in PLAIN_TYPES
        ids = [engine.prompt_ids(prompt) for prompt in prompts]
        chat = engine.chat.texts
    if bare is None:
        with _llama_cpp(base, config) as plain:
            bare = _score(plain, prompts, reporter, "verify: the bare base")
    return ExportAnswers(template, probabilities, bare, texts, repeatable, ids, quantized, chat)


def _template_of(exported: Path) -> str:
    try:
        return read_header(exported).manifest.template_sha256 or "none"
    except InputError as error:
        raise DoesNotLoad(str(error)) from None


@contextmanager
def _llama_cpp(model: Path, config: Config, *, adapter: Path | None = None) -> Iterator["LlamaCppEngine"]:
    """The engine over a model, with the adapter in use where there is one; closed at the end."""
    from candletune.engines.llama_cpp import LlamaCppEngine

    try:
        engine = LlamaCppEngine(model, config.engine, config.base.chat)
    except OutOfMemory:
        raise
    except InputError as error:
        raise DoesNotLoad(str(error)) from None
    with closing(engine):
        if adapter is not None:
            try:
                engine.add_adapter(CANDIDATE, adapter)
                engine.use(CANDIDATE)
            except OutOfMemory:
                raise
            except InputError as error:
                raise DoesNotLoad(str(error)) from None
        yield engine


def _score(engine: Engine, prompts: Sequence[str], reporter: Reporter, title: str) -> NDArray[np.float64]:
    """Probabilities (n, 3), a few prompts at a time, so that a log file hears how far it is."""
    parts = []
    with reporter.task(title, len(prompts)) as task:
        for offset in range(0, len(prompts), AT_ONCE):
            parts.append(engine.score(prompts[offset : offset + AT_ONCE]))
            task.advance(len(parts[-1]))
    return np.concatenate(parts)


def _generate(engine: Engine, prompts: Sequence[str], reporter: Reporter) -> list[Generation]:
    texts = []
    with reporter.task("verify: answers", len(prompts)) as task:
        for prompt in prompts:
            texts.append(engine.generate(prompt))
            task.advance()
    return texts


@quiet()
def ask_reference(config: Config, adapter: Path, prompts: Sequence[str], reporter: Reporter) -> ReferenceAnswers:
    """Ask the Transformers model with the trained adapter, which is what was meant to be exported.

    Args:
        config: names base, chat format, device and budget, and whether the base is in 4 bits (verify.reference).
        adapter: PEFT folder.
        prompts: what is asked.
        reporter: progress of a base's download.

    Raises:
        InputError: base or adapter cannot be loaded.
        UsageError: Unsloth changed Transformers in this process.
    """
    from candletune.base.find import resolve_base
    from candletune.engines.transformers import TransformersEngine

    base = resolve_base(config, reporter).path
    quantization = "nf4" if config.verify.reference == "nf4" else "none"
    with closing(TransformersEngine(config, base, quantization)) as reference:
        ids = [reference.prompt_ids(prompt) for prompt in prompts]
        reference.add_adapter(CANDIDATE, adapter)
        reference.use(CANDIDATE)
        return ReferenceAnswers(_score(reference, prompts, reporter, "verify: Transformers"), ids)
