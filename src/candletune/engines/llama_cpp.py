"""llama.cpp through llama-cpp-python's low-level calls: one base, adapters switched on it, decisions from logits."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from candletune.config import EngineConfig
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Generation
from candletune.errors import InputError
from candletune.gguf.header import Header, read_header
from candletune.gguf.log import captured
from candletune.prompts.chat import MISTRAL, ChatFormat, common_prefix, decision_tokens, encode_prompt

SEQUENCES = 8
"""Prompts decoded at once; their common beginning is computed once and shared."""
GRAMMAR = r"""
root ::= "DECISION: " ("BUY" | "SELL" | "HOLD") " - " reason
reason ::= [^\x00-\x1F\x7F]+
"""
REASON_GRAMMAR = r"root ::= [^\x00-\x1F\x7F]+"


class LlamaCppEngine:
    """See `candletune.engines.Engine`. Not safe for several threads at once; serving puts a queue before it."""

    def __init__(self, base: Path, config: EngineConfig, chat: ChatFormat = MISTRAL) -> None:
        self.base = read_header(base)
        if self.base.is_adapter:
            raise InputError(f"{base}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF")
        self.config, self.chat = config, chat
        self._model: Any = None
        self._context: Any = None
        self._adapters: dict[str, Any] = {}
        self._active: str | None = None
        self._resident: list[int] = []
        self._load(base)
        self.vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._bos = llama_cpp.llama_vocab_bos(self.vocab)
        self._size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.tokens = decision_tokens(self.encode)

    def _load(self, base: Path) -> None:
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = self.config.gpu_layers if self.config.gpu_layers >= 0 else 2**20
        with captured() as log:
            llama_cpp.llama_backend_init()
            self._model = llama_cpp.llama_model_load_from_file(str(base).encode(), parameters)
            if not self._model:
                raise InputError(f"{base}: llama.cpp cannot load it ({log.last_error()}); export or download it again")
            self._context = self._new_context()
            if not self._context:
                self.close()
                raise InputError(f"{base}: no memory for a context ({log.last_error()}); lower engine.context")

    def _new_context(self) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = self.config.context + SEQUENCES * 256
        parameters.n_batch = parameters.n_ctx
        parameters.n_ubatch = 512
        parameters.n_seq_max = SEQUENCES + 1
        parameters.kv_unified = True
        parameters.no_perf = True
        if self.config.threads:
            parameters.n_threads = parameters.n_threads_batch = self.config.threads
        else:
            import os

            parameters.n_threads = parameters.n_threads_batch = os.cpu_count() or 1
        return llama_cpp.llama_init_from_model(self._model, parameters)

    # --- adapters ---------------------------------------------------------------------------------------------

    def add_adapter(self, name: str, path: Path) -> None:
        """See the protocol. The header is checked first: type, architecture, and the base it was trained on."""
        header = read_header(path)
        check_adapter(header, self.base)
        with captured() as log:
            adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
            if not adapter:
                raise InputError(f"{path}: llama.cpp refuses the adapter ({log.last_error()}); export it again")
        self._adapters[name] = adapter

    def use(self, name: str | None) -> None:
        """See the protocol."""
        if name is not None and name not in self._adapters:
            raise InputError(f"adapter {name!r}: not loaded; add it first")
        if name == self._active:
            return
        self._clear()
        count = 0 if name is None else 1
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(*([self._adapters[name]] if name is not None else []))
        scales = (ctypes.c_float * 1)(1.0)
        if llama_cpp.llama_set_adapters_lora(self._context, handles, count, scales) != 0:
            raise InputError(f"adapter {name!r}: llama.cpp could not switch to it")
        self._active = name

    # --- tokens -----------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a text: control tokens parsed, nothing added."""
        data = text.encode()
        room = len(data) + 16
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, room, False, True)
        if count < 0:
            raise InputError("prompt: llama.cpp cannot tokenize it; remove unusual characters")
        return list(buffer[:count])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        pieces = []
        buffer = ctypes.create_string_buffer(512)
        for token in ids:
            length = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 512, 0, False)
            pieces.append(buffer.raw[: max(length, 0)])
        return b"".join(pieces).decode("utf-8", "replace")

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        ids = encode_prompt(self.encode, prompt, self._bos, self.chat)
        if len(ids) + self.config.max_tokens > self.config.context:
            raise InputError(
                f"prompt: {len(ids)} tokens and engine.max_tokens = {self.config.max_tokens} exceed engine.context = "
                f"{self.config.context}; shorten the headlines or raise engine.context"
            )
        return ids

    # --- scoring ----------------------------------------------------------------------------------------------

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol. Prompts are taken in order of length; what a group begins with is computed once."""
        rows = [[*self.prompt_ids(prompt), *self.tokens.prefix] for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found = np.zeros((len(rows), len(DECISIONS)))
        start = 0
        while start < len(order):
            group = self._group(rows, order, start)
            found[group] = self._score_group([rows[row] for row in group])
            start += len(group)
        return found

    def _group(self, rows: list[list[int]], order: list[int], start: int) -> list[int]:
        """As many rows, in order, as the sequences and the cache have room for."""
        room = self.config.context + SEQUENCES * 256
        group: list[int] = []
        for row in order[start : start + SEQUENCES]:
            wanted = [*group, row]
            shared = common_prefix([rows[r] for r in wanted])
            if group and shared + sum(len(rows[r]) - shared for r in wanted) > room:
                break
            group = wanted
        return group

    def _score_group(self, rows: list[list[int]]) -> NDArray[np.float64]:
        shared = min(common_prefix(rows), min(len(row) for row in rows) - 1) if len(rows) > 1 else 0
        self._clear()
        memory = llama_cpp.llama_get_memory(self._context)
        if shared:
            self._run([(token, place, 0, False) for place, token in enumerate(rows[0][:shared])])
            for sequence in range(1, len(rows) + 1):
                llama_cpp.llama_memory_seq_cp(memory, 0, sequence, 0, shared)
        entries, wanted = [], []
        for sequence, row in enumerate(rows, start=1):
            for place in range(shared, len(row)):
                entries.append((row[place], place, sequence, place == len(row) - 1))
            wanted.append(len(entries) - 1)
        self._run(entries)
        logits = np.stack([self._logits(index)[list(self.tokens.ids)] for index in wanted])
        self._clear()
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    # --- generating -------------------------------------------------------------------------------------------

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol. The prompt's keys and values are reused while prompt and adapter stay the same."""
        start = self.prompt_ids(prompt)
        forced = [] if action is None else self.encode(f"DECISION: {action} -")
        self._prefill([*start, *forced])
        grammar = (REASON_GRAMMAR if action else GRAMMAR) if self.config.grammar else None
        sampler = self._sampler(grammar)
        written: list[int] = []
        ended = False
        try:
            for _ in range(self.config.max_tokens):
                token = llama_cpp.llama_sampler_sample(sampler, self._context, -1)
                if llama_cpp.llama_vocab_is_eog(self.vocab, token):
                    ended = True
                    break
                written.append(token)
                self._run([(token, len(self._resident), 0, True)])
                self._resident.append(token)
        finally:
            llama_cpp.llama_sampler_free(sampler)
        return Generation(self.decode([*forced, *written]).strip(), ended, len(written))

    def _prefill(self, ids: list[int]) -> None:
        """Bring sequence 0 to hold exactly `ids`; the last one is always decoded again, for its logits."""
        kept = min(common_prefix([self._resident, ids]), len(ids) - 1)
        memory = llama_cpp.llama_get_memory(self._context)
        if kept == 0 or not llama_cpp.llama_memory_seq_rm(memory, 0, kept, -1):
            self._clear()
            kept = 0
        last = len(ids) - 1
        self._run([(ids[place], place, 0, place == last) for place in range(kept, len(ids))])
        self._resident = list(ids)

    def _sampler(self, grammar: str | None) -> Any:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if grammar is not None:
            added = llama_cpp.llama_sampler_init_grammar(self.vocab, grammar.encode(), b"root")
            llama_cpp.llama_sampler_chain_add(chain, added)
        if self.config.temperature > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(self.config.temperature))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(0))
        else:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
        return chain

    # --- llama.cpp --------------------------------------------------------------------------------------------

    def _run(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """Decode (token, position, sequence, wants logits)."""
        batch = llama_cpp.llama_batch_init(len(entries), 0, 1)
        try:
            batch.n_tokens = len(entries)
            for index, (token, place, sequence, wanted) in enumerate(entries):
                batch.token[index] = token
                batch.pos[index] = place
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = wanted
            with captured() as log:
                if llama_cpp.llama_decode(self._context, batch) != 0:
                    self._clear()
                    raise InputError(f"llama.cpp could not decode {len(entries)} tokens ({log.last_error()})")
        finally:
            llama_cpp.llama_batch_free(batch)

    def _logits(self, index: int) -> NDArray[np.float64]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self._size,)).astype(np.float64)

    def _clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._resident = []

    def close(self) -> None:
        """See the protocol."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        for adapter in self._adapters.values():
            llama_cpp.llama_adapter_lora_free(adapter)
        self._adapters = {}
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None


def check_adapter(adapter: Header, base: Header) -> None:
    """Refuse an adapter that llama.cpp might load but that was made for something else.

    Raises:
        InputError: not an adapter, another architecture, or trained on another base (where both files say so).
    """
    if not adapter.is_adapter:
        raise InputError(f"{adapter.path}: is a whole model, not a LoRA adapter; set it as base.gguf instead")
    ours, theirs = adapter.fields.get("general.architecture"), base.fields.get("general.architecture")
    if ours != theirs:
        raise InputError(
            f"{adapter.path}: adapts a {ours} model, {base.path.name} is {theirs}; use the right base.gguf"
        )
    trained, loaded = adapter.manifest.get("base_sha256"), base.manifest.get("base_sha256")
    if trained and loaded and trained != loaded:
        raise InputError(
            f"{adapter.path}: trained on base {trained[:8]}, but {base.path.name} is {loaded[:8]}; use the base it was "
            "trained on"
        )
