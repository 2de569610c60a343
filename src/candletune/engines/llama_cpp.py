"""llama.cpp through llama-cpp-python's low-level calls: one base, adapters switched on it, decisions from logits."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import psutil
from numpy.typing import NDArray

from candletune.base.chat import ChatFormat
from candletune.config import Config, EngineConfig
from candletune.decisions import DECISIONS, Decision
from candletune.engines import EngineKind, Generation, beginning_of
from candletune.engines.asking import FLOAT_ROWS, Answer, Asking, decision_probabilities
from candletune.engines.batches import Batches, RowBatch, decode, set_adapter
from candletune.engines.loading import context_parameters, first_loads, load_adapter, load_model
from candletune.engines.placement import PASS_TOKENS, CardLayers, CardRoom, cache_bytes, card_layers, context_fits
from candletune.engines.sampling import Sampler
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.header import read_header
from candletune.gguf.llama_vocabulary import LlamaVocabulary

SLOTS = 2
"""Adapters whose keys and values are kept side by side: incumbent and candidate take turns without reading again."""
TRIED = "tried_adapters.txt"
"""In `base.cache`: adapters that were good when they were first loaded."""
GPU_BATCH = 16
"""Prompts a pass where llama.cpp was built for a GPU. A CPU gains nothing, and one by one is the same bits always."""


class LlamaCppEngine:
    """See `candletune.engines.Engine`. Not safe for several threads at once; serving puts a queue before it.

    A prompt is read in parts that depend on nothing but itself: what the template begins with, then the rest. A part is
    read again unless the adapter's own sequence holds it, behind the same parts, already. So what is reused has the
    bits that reading it again would give, whatever was asked before.

    Args:
        base: the base model's GGUF.
        config: context, threads, GPU layers, sampling.
        chat: `base.chat`. With `auto` a base that says nothing of its chat is asked in the one that its first adapter
            records, Mistral's where that says nothing either.
        beginning: text every prompt begins with, read once for each adapter; see `candletune.engines.beginning_of`.
        vram_gib: most that may be used of the card, with `engine.gpu_layers` -1; none: what it has free.
        tried: file that remembers which adapters were good when they were loaded in a process of their own first; none:
            they aren't, for whoever made them a moment ago.

    Attributes:
        card: how many layers are on the card.
    """

    def __init__(
        self,
        base: Path,
        config: EngineConfig,
        chat: str = "auto",
        *,
        beginning: str = "",
        vram_gib: float | None = None,
        tried: Path | None = None,
    ) -> None:
        self.base = read_header(base)
        self._trials = first_loads(self.base, tried, config)
        if self.base.is_adapter:
            raise InputError(f"{base}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF")
        self.config = config
        self._model: Any = None
        self._context: Any = None
        self._batches: Batches | None = None
        self._adapters: dict[str, Any] = {}  # name -> llama.cpp's handle, a ctypes pointer
        self._active: str | None = None
        self._slots: dict[str | None, int] = {None: 0}
        self._held: list[list[list[int]]] = [[] for _ in range(SLOTS)]
        self._stop: Callable[[], bool] | None = None
        self._abort = llama_cpp.ggml_abort_callback(lambda _: self._stop is not None and self._stop())
        self._load(base, vram_gib)
        self.vocabulary = LlamaVocabulary(llama_cpp.llama_model_get_vocab(self._model))
        try:
            self._asking = Asking(self.base, self.vocabulary, config, chat, beginning)
            self._batch = RowBatch(llama_cpp.llama_n_batch(self._context), SLOTS, self._asking.outputs)
            self._batches = self._open_batches()
        except InputError:
            self.close()
            raise

    @property
    def chat(self) -> ChatFormat:
        """What prompts are asked in."""
        return self._asking.chat

    def _load(self, base: Path, vram_gib: float | None) -> None:
        llama_cpp.llama_backend_init()
        self._room = CardRoom(vram_gib)
        self.card = card_layers(self.base, self.config.gpu_layers, self._longest * SLOTS, self._room.left)
        while True:
            try:
                return self._load_with(base, self.card)
            except OutOfMemory:
                self.close()
                if self.config.gpu_layers >= 0 or not self.card.told:
                    raise
            self.card = self.card.fewer()

    @property
    def _longest(self) -> int:
        """Tokens of a sequence; 32: those of a given decision, which a prompt's length check does not count."""
        return self.config.context + 32

    def _open_batches(self) -> Batches | None:
        """What reads several prompts a pass; None where they are read one by one."""
        on_card = llama_cpp.llama_supports_gpu_offload() and self.card.told
        size = self.config.batch or (GPU_BATCH if on_card else 1)
        if size == 1 or llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model):
            return None
        return Batches(self._new_context, size, self._asking)

    def _load_with(self, base: Path, card: CardLayers) -> None:
        self._model = load_model(self.base, card, self.config)
        self._context = self._new_context(SLOTS, self._longest, min(self._longest, PASS_TOKENS))
        if not self._context:
            self.close()
            raise OutOfMemory(
                f"{base}: no memory for a context of {self.config.context} tokens (keys and values do not fit), "
                f"{card.text}; lower engine.context or engine.gpu_layers"
            )

    def _room_for_context(self, tokens: int, at_once: int) -> bool:
        """Whether main memory and card hold the keys and values of their layers.

        Linux promises memory that it does not have, and ends the process that then uses it. A number of layers that is
        set is taken as it is.
        """
        if self.config.gpu_layers < 0 and not context_fits(self.base, self.card, tokens, at_once, self._room.left):
            return False
        layers = max(0, self.card.total - 1 - self.card.told)
        needed = layers * cache_bytes(self.base, tokens)
        return bool(needed < psutil.virtual_memory().available)

    def _new_context(self, sequences: int, tokens: int, at_once: int) -> Any:
        """For so many sequences of so many tokens, and passes of that many; None when there is no memory."""
        if not self._room_for_context(sequences * tokens, at_once):
            return None
        parameters = context_parameters(self.base)
        parameters.n_ctx = sequences * tokens
        parameters.n_batch = max(tokens, at_once)
        parameters.n_ubatch = at_once
        parameters.n_seq_max, parameters.n_outputs_max = sequences, sequences + FLOAT_ROWS
        # Each sequence in cells of its own: attention reads no other's, and where they lie depends on nothing else.
        parameters.kv_unified = False
        parameters.no_perf = True
        parameters.n_threads = parameters.n_threads_batch = self.config.threads or os.cpu_count() or 1
        return llama_cpp.llama_init_from_model(self._model, parameters) or None

    # --- adapters ---------------------------------------------------------------------------------------------

    def add_adapter(self, name: str, path: Path) -> None:
        """See the protocol. The header is checked first: type, architecture, and the base it was trained on."""
        header = read_header(path)
        self._asking.check_adapter(header, untouched=not any(self._held))
        self._adapters[name] = load_adapter(self._model, path, self._trials)

    def use(self, name: str | None) -> None:
        """See the protocol."""
        if name is not None and name not in self._adapters:
            raise InputError(f"adapter {name!r}: not loaded; add it first")
        if name == self._active:
            return
        if set_adapter(self._context, None if name is None else self._adapters[name]) != 0:
            raise InputError(f"adapter {name!r}: llama.cpp could not switch to it")
        self._active = name
        if name in self._slots:
            self._slots[name] = self._slots.pop(name)  # behind the others: the one used longest ago stands first
        elif len(self._slots) < SLOTS:
            self._slots[name] = len(self._slots)
        else:
            self._slots[name] = self._slots.pop(next(iter(self._slots)))
            self._clear()

    # --- tokens -----------------------------------------------------------------------------------------------

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        return self._asking.prompt_ids(prompt)

    # --- scoring ----------------------------------------------------------------------------------------------

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol. Several a pass where that gains something; else one after another."""
        ids = [self._asking.scored_ids(prompt) for prompt in prompts]
        if (batches := self._together(ids)) is not None:
            return decision_probabilities(batches.logits(ids))
        logits_by_row = np.zeros((len(prompts), len(DECISIONS)))
        for row, prompt in enumerate(prompts):
            self._read(self._asking.parts(prompt))
            logits = llama_cpp.llama_get_logits_ith(self._context, -1)
            logits_by_row[row] = [logits[token] for token in self._asking.tokens.ids]
        if not np.isfinite(logits_by_row).all():
            self._clear()  # no such number may lie in cells that are used again
        return decision_probabilities(logits_by_row)

    # --- generating -------------------------------------------------------------------------------------------

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol. Behind `score` of the same prompt, only the decision is left to read."""
        asked = self._asking.answer(prompt, action)
        self._read(asked.parts)
        sampler = self._sampler(asked)
        written: list[int] = []
        ended = False
        place = sum(map(len, asked.parts))
        try:
            while len(written) < self.config.max_tokens:
                token = sampler.next(self._context)
                ended = self._asking.ends(token)
                if self._asking.breaks(token):
                    break
                written.append(token)
                self._decode([token], place)
                place += 1
        finally:
            sampler.close()
        return self._asking.generation(asked, written, ended=ended)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """See the protocol; several a pass where that gains something, else one after another."""
        asked = [self._asking.answer(prompt, action) for prompt, action in zip(prompts, actions, strict=True)]
        if (batches := self._together([answer.ids for answer in asked])) is None:
            return [self.generate(prompt, action=action) for prompt, action in zip(prompts, actions, strict=True)]
        written = batches.write(asked, self._sampler)
        return [
            self._asking.generation(answer, ids, ended=ended)
            for answer, (ids, ended) in zip(asked, written, strict=True)
        ]

    def _sampler(self, asked: Answer) -> Sampler:
        return Sampler(self.vocabulary.handle, asked.grammar, self.config.temperature, self._asking.unwritten)

    def _together(self, prompts: Sequence[list[int]]) -> Batches | None:
        """What reads these prompts several a pass; None: one by one."""
        batches = self._batches
        if batches is None or len(prompts) < 2 or not batches.fits(prompts):
            return None
        batches.use(None if self._active is None else self._adapters[self._active])
        batches.stop = self._stop
        try:
            batches.make_room(max(map(len, prompts)) + self.config.max_tokens)
        except OutOfMemory:
            if self.config.batch:  # it was asked for
                raise
            self._batches = None
        return self._batches

    # --- llama.cpp --------------------------------------------------------------------------------------------

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """See the protocol. On a CPU asked within a pass over the model too, else between passes."""
        self._stop = asked
        callback = self._abort if asked is not None else llama_cpp.ggml_abort_callback()
        llama_cpp.llama_set_abort_callback(self._context, callback, None)
        if self._batches is not None:
            self._batches.abort_with(callback)

    def _read(self, parts: list[list[int]]) -> None:
        """Bring the adapter's sequence to hold exactly these parts; the last is always read, for its logits."""
        slot = self._slots[self._active]
        held, kept = self._held[slot], 0
        while kept < min(len(held), len(parts) - 1) and held[kept] == parts[kept]:
            kept += 1
        place = sum(map(len, parts[:kept]))
        memory = llama_cpp.llama_get_memory(self._context)
        if not llama_cpp.llama_memory_seq_rm(memory, slot, place, -1):
            self._clear()
            kept = place = 0
        held = self._held[slot] = parts[:kept]
        for part in parts[kept:]:
            self._decode(part, place)
            held.append(part)
            place += len(part)

    def _decode(self, ids: list[int], place: int) -> None:
        """Pass ids, the first at position `place`, through the model; logits of the last one.

        Raises:
            Stopped: `stop_when` said so.
            InputError: llama.cpp failed.
        """
        # Cut evenly: llama.cpp itself would leave a last pass of few tokens (see `FLOAT_ROWS`).
        size = -(-len(ids) // -(-len(ids) // PASS_TOKENS))
        for first in range(0, len(ids), size):
            piece = ids[first : first + size]
            batch, _ = self._batch.fill([(piece, place + first, self._slots[self._active])], len(piece), 0)
            decode(self._context, batch, self._stop, self._clear)

    def _clear(self) -> None:
        """Forget every sequence, their numbers too."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._held = [[] for _ in range(SLOTS)]

    def close(self) -> None:
        """See the protocol."""
        if self._batches is not None:
            self._batches.close()
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        for adapter in self._adapters.values():
            llama_cpp.llama_adapter_lora_free(adapter)
        self._adapters = {}
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None


def open_gguf(config: Config, base: Path) -> LlamaCppEngine:
    """Over a base's GGUF, reading what the configured template begins with once.

    Raises:
        InputError: there is no such file, or llama.cpp cannot load it.
    """
    return LlamaCppEngine(
        base,
        config.engine,
        config.base.chat,
        beginning=beginning_of(config),
        vram_gib=config.train.vram_gib,
        tried=config.base.cache.expanduser() / TRIED,
    )


ENGINE = EngineKind(open_gguf, "gguf")
