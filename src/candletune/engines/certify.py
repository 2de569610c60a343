"""What an export answers to held-out prompts, and what the model answers exactly as it was trained.

The two are never in memory at the same time: llama.cpp is closed before Transformers loads anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts import AdapterRecord
from candletune.base.quiet import quiet
from candletune.config import Config, TrainConfig
from candletune.console import Reporter
from candletune.decisions import DECISIONS
from candletune.engines import Engine, Generation
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.header import read_header

if TYPE_CHECKING:
    from candletune.base.find import Base
    from candletune.engines.llama_cpp import LlamaCppEngine

CANDIDATE = "candidate"
WEIGHT_SETTINGS = ("quantization", "double_quant", "bf16")
"""Of `train`: what shapes the numbers under an adapter."""
AT_ONCE = 10
"""Prompts that llama.cpp scores between two steps of the progress."""
A_PASS = 32
"""Prompts that Transformers scores in one pass, which expands the packed weights, or brings streamed ones, once."""


class DoesNotLoad(InputError):
    """llama.cpp, or our own check before it, refuses the export; its message is the reason."""


@dataclass(frozen=True, slots=True)
class ExportAnswers:
    """What an export answers.

    Attributes:
        template_sha256: of the template it was trained with, as its file says; `none` when it does not.
        probabilities: of BUY, SELL and HOLD, shape (n, 3).
        asked: rows of the m prompts that were answered in text too.
        bare: what the base says to those without the adapter, (m, 3).
        texts: unconstrained answers to those, greedy, no grammar: what a drop-in says.
        repeatable: asked again, behind a switch to the bare base and back, the m probabilities have the same bits.
        ids: of each prompt.
        quantized: whether the base (or the merged model) is stored in less than 16 bits.
        chat: what it was asked in: `before`, `after`, `end`.
    """

    template_sha256: str
    probabilities: NDArray[np.float64]
    asked: Sequence[int]
    bare: NDArray[np.float64]
    texts: list[Generation]
    repeatable: bool
    ids: list[list[int]]
    quantized: bool
    chat: dict[str, str]

    def first(self, count: int) -> "ExportAnswers":
        """Without what was scored behind the first so many prompts."""
        return replace(self, probabilities=self.probabilities[:count], ids=self.ids[:count])

    @property
    def judged(self) -> NDArray[np.float64]:
        """Probabilities of the m prompts that were answered in text, (m, 3)."""
        judged: NDArray[np.float64] = self.probabilities[list(self.asked)]
        return judged


@dataclass(frozen=True, slots=True)
class TrainedAnswers:
    """What the model answers as it was trained.

    Attributes:
        probabilities: of BUY, SELL and HOLD, (n, 3).
        ids: of each prompt.
        storage: of the frozen weights it was trained over: `gguf`, `nf4`, `fp4` or `none`.
    """

    probabilities: NDArray[np.float64]
    ids: list[list[int]]
    storage: str


def ask_export(
    exported: Path,
    base: Path,
    config: Config,
    prompts: Sequence[str],
    reporter: Reporter,
    *,
    asked: Sequence[int],
    merged: bool,
) -> ExportAnswers:
    """Ask llama.cpp with the export: every prompt once, and those that are answered in text twice more.

    Args:
        exported: LoRA GGUF, or a merged model.
        base: the base's GGUF.
        config: engine settings, with grammar and temperature switched off, `base.chat` and the template.
        prompts: what is scored.
        reporter: progress.
        asked: rows of the prompts that are answered in text, and by the bare base too.
        merged: whether `exported` is a whole model.

    Raises:
        DoesNotLoad: the export or the base is refused.
        OutOfMemory: card or memory do not hold it.
    """
    settings = config.engine.model_copy(update={"grammar": False, "temperature": 0.0})
    config = config.model_copy(update={"engine": settings})
    chosen = [prompts[row] for row in asked]
    bare: NDArray[np.float64] | None = None
    template = _template_of(exported)
    with _llama_cpp(exported if merged else base, config, adapter=None if merged else exported) as engine:
        if engine.card.partly:
            reporter.say(f"llama.cpp: {engine.card.text}, the rest in main memory")
        probabilities = _score_all(engine, prompts, asked, reporter)
        texts = _generate(engine, chosen, reporter)
        if not merged:
            engine.use(None)
            bare = _score(engine, chosen, reporter, "verify: the bare base")
            engine.use(CANDIDATE)
        again = _score(engine, chosen, reporter, "verify: asked again")
        repeatable = bool(np.array_equal(again, probabilities[list(asked)]))
        ids = [engine.prompt_ids(prompt) for prompt in prompts]
        chat = engine.chat.texts
    if bare is None:
        with _llama_cpp(base, config) as plain:
            bare = _score(plain, chosen, reporter, "verify: the bare base")
    return ExportAnswers(template, probabilities, asked, bare, texts, repeatable, ids, engine.base.is_quantized, chat)


def _template_of(exported: Path) -> str:
    try:
        return read_header(exported).manifest.template_sha256 or "none"
    except InputError as error:
        raise DoesNotLoad(str(error)) from None


@contextmanager
def _llama_cpp(model: Path, config: Config, *, adapter: Path | None = None) -> Iterator["LlamaCppEngine"]:
    """The engine over a model, with the adapter in use where there is one; closed at the end."""
    from candletune.engines.llama_cpp import open_gguf

    try:
        engine = open_gguf(config, model)
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


def _score_all(engine: Engine, prompts: Sequence[str], asked: Sequence[int], reporter: Reporter) -> NDArray[np.float64]:
    """Of all rows, (n, 3); those that are asked again later come first, so both times their company is the same."""
    rest = [row for row in range(len(prompts)) if row not in set(asked)]
    scored = np.zeros((len(prompts), len(DECISIONS)))
    with reporter.task("verify: decisions", len(prompts)) as task:
        for rows in (asked, rest):
            for offset in range(0, len(rows), AT_ONCE):
                part = rows[offset : offset + AT_ONCE]
                scored[part] = engine.score([prompts[row] for row in part])
                task.advance(len(part))
    return scored


def _score(
    engine: Engine, prompts: Sequence[str], reporter: Reporter, title: str, *, at_once: int = AT_ONCE
) -> NDArray[np.float64]:
    """Probabilities (n, 3), a few prompts at a time, so that a log file hears how far it is."""
    parts = []
    with reporter.task(title, len(prompts)) as task:
        for offset in range(0, len(prompts), at_once):
            parts.append(engine.score(prompts[offset : offset + at_once]))
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
def ask_trained(config: Config, adapter: Path, prompts: Sequence[str], reporter: Reporter) -> TrainedAnswers:
    """Ask the model exactly as trained: the adapter over the weights, in the storage, that its training read.

    Packed weights stay packed, so it takes the memory that training took, and no 16-bit copy of the base. A small model
    computes in float32, see `asked_exactly`.

    Args:
        config: names base, chat format, device and budget.
        adapter: PEFT folder; its record says the storage.
        prompts: what is asked.
        reporter: progress.

    Raises:
        InputError: base or adapter cannot be loaded, or it was trained over another base.
        UsageError: Unsloth changed Transformers in this process.
    """
    from candletune.base.find import resolve_base
    from candletune.base.load import asked_exactly, storage_of
    from candletune.engines.transformers import TransformersEngine

    record = AdapterRecord.read_if_there(adapter / AdapterRecord.FILE)
    config = as_trained(config, record)
    base = resolve_base(config, reporter)
    if record is not None:
        _check_base(adapter, record, base)
    storage = storage_of(config.train.quantization, base.path)
    config = config.model_copy(update={"train": asked_exactly(config.train, base.shape.parameters)})
    with closing(TransformersEngine(config, base.path, storage, served_ids=True)) as engine:
        ids = [engine.prompt_ids(prompt) for prompt in prompts]
        engine.add_adapter(CANDIDATE, adapter)
        engine.use(CANDIDATE)
        scored = _score(engine, prompts, reporter, "verify: the model as trained", at_once=A_PASS)
        return TrainedAnswers(scored, ids, storage)


def as_trained(config: Config, record: AdapterRecord | None) -> Config:
    """The configuration with what an adapter's record says of the weights under it, and of the type computed in.

    An earlier candletune recorded nothing: then the configuration's own settings are believed.
    """
    said = {} if record is None else {key: record.train[key] for key in WEIGHT_SETTINGS if key in record.train}
    if record is not None and record.storage is not None:
        said["quantization"] = record.storage
    train = TrainConfig.model_validate(config.train.model_dump() | said)
    return config.model_copy(update={"train": train})


def _check_base(adapter: Path, record: AdapterRecord, base: "Base") -> None:
    """The weights that it was trained over must be at hand: the same model, and of a GGUF the same blocks."""
    trained, found = record.base_sha256, base.sha256
    if record.storage == "gguf" and record.base_gguf_sha256 and base.gguf_sha256:
        trained, found = record.base_gguf_sha256, base.gguf_sha256
    if trained != found:
        raise InputError(
            f"{adapter}: trained over {record.base} ({trained[:8]}), but {base.path} is {found[:8]}; set base.model, "
            "base.gguf and base.serve_type as in training, or train again"
        )
