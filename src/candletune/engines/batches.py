"""Several prompts a pass through llama.cpp: each a sequence in cells of its own, behind a beginning computed once.

Every sequence of a pass is as long as the longest, filled up behind its end, where nothing looks back from: llama.cpp
would cut rows of different lengths into passes by one another's. So what is computed for a prompt depends on the
others only where a kernel's rounding depends on how many rows it is given.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from candletune.engines import Stopped
from candletune.engines.asking import Answer, Asking
from candletune.engines.sampling import Sampler
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.log import captured

TOKENS = 2048
"""A pass holds at most; enough for a GPU to be busy, and its buffers stay small."""
TILE = 64
"""Rows from which llama.cpp's attention on a CPU is another kernel, with other rounding: none is filled up across."""
_CELLS = 256
"""Sequences are made for multiples of so many tokens."""
_ABORTED, _ALLOCATION_FAILED = 2, -2
"""What llama_decode returns when the abort callback ended it, and when memory could not be had."""
Context = Callable[[int, int, int], Any]


def decode(context: Any, batch: Any, stop: Callable[[], bool] | None, clear: Callable[[], None]) -> None:
    """Pass a batch through the model; `clear` is called before anything is raised.

    Raises:
        Stopped: `stop` said so.
        InputError: llama.cpp failed.
    """
    if stop is not None and stop():
        clear()
        raise Stopped
    with captured() as log:
        code = llama_cpp.llama_decode(context, batch)
    if code == 0:
        return
    clear()
    if code == _ABORTED:
        raise Stopped
    count = batch.n_tokens
    if code == _ALLOCATION_FAILED or log.allocation_failed():
        raise OutOfMemory(
            f"no memory to read {count} tokens ({log.last_error()}); lower engine.gpu_layers or engine.context"
        )
    raise InputError(f"llama.cpp could not decode {count} tokens ({log.last_error()})")


@dataclass
class _Row:
    """An answer that is being written: its sampler, where the next token stands, and what was written."""

    sampler: Sampler
    place: int
    written: list[int] = field(default_factory=list)
    ended: bool = False
    over: bool = False


class Batches:
    """Reads many prompts under one adapter.

    Args:
        new_context: makes a context of (sequences, tokens a sequence, tokens a pass); None when there is no memory.
        size: prompts a pass at most.
        asking: how prompts and answers look.

    Attributes:
        stop: asked before each pass; see `Engine.stop_when`.
    """

    def __init__(self, new_context: Context, size: int, asking: Asking) -> None:
        self._new_context, self._size, self._asking = new_context, size, asking
        self.stop: Callable[[], bool] | None = None
        self._context: Any = None
        self._cells = 0
        self._adapter: Any = None
        self._held: list[int] | None = None  # what sequence 0 holds; None: nothing of this adapter
        self._set: tuple[Any, Any] | None = None  # context and the adapter it uses
        self._callback: Any = None
        self._batch = RowBatch(TOKENS, size + 1, asking.outputs)

    def use(self, adapter: Any) -> None:
        """Take an adapter's handle; None: the bare base."""
        if adapter is not self._adapter:
            self._adapter, self._held = adapter, None

    def logits(self, prompts: Sequence[list[int]]) -> NDArray[np.float64]:
        """Logits of the three decisions behind each prompt's ids, shape (n, 3)."""
        found = np.zeros((len(prompts), len(self._asking.tokens.ids)))
        for group in self._groups(prompts):
            rows = self._read([prompts[number] for number in group])
            for number, index in zip(group, rows, strict=True):
                logits = llama_cpp.llama_get_logits_ith(self._context, index)
                found[number] = [logits[token] for token in self._asking.tokens.ids]
        if not np.isfinite(found).all():
            self.clear()  # no such number may lie in cells that are used again
        return found

    def write(self, answers: Sequence[Answer], sampler: Callable[[Answer], Sampler]) -> list[tuple[list[int], bool]]:
        """Each answer's ids, and whether the model ended it by itself; several are written at once."""
        found: dict[int, tuple[list[int], bool]] = {}
        for group in self._groups([answer.ids for answer in answers]):
            chosen = [answers[number] for number in group]
            rows = [_Row(sampler(answer), len(answer.ids)) for answer in chosen]
            try:
                self._write(rows, self._read([answer.ids for answer in chosen]))
            finally:
                for row in rows:
                    row.sampler.close()
            found |= {number: (row.written, row.ended) for number, row in zip(group, rows, strict=True)}
        return [found[number] for number in range(len(answers))]

    def make_room(self, tokens: int) -> None:
        """Have sequences of at least so many tokens; before `logits` and `write`.

        Raises:
            OutOfMemory: there is none for them.
        """
        if self._context and tokens <= self._cells:
            return
        self.close()
        self._cells = -(-tokens // _CELLS) * _CELLS
        self._held = None
        self._context = self._new_context(self._size + 1, self._cells, TOKENS)
        if not self._context:
            raise OutOfMemory(
                f"no memory to read {self._size} prompts of {self._cells} tokens at a time; set engine.batch=1"
            )
        if self._callback is not None:
            llama_cpp.llama_set_abort_callback(self._context, self._callback, None)

    @staticmethod
    def fits(ids: Sequence[list[int]]) -> bool:
        """Whether two prompts as long as these go into one pass."""
        return 2 * max(map(len, ids)) <= TOKENS

    def clear(self) -> None:
        """Forget every sequence, their numbers too."""
        self._held = None
        if self._context:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def abort_with(self, callback: Any) -> None:
        """Hand llama.cpp the callback that may end a pass; see `Engine.stop_when`."""
        self._callback = callback
        if self._context:
            llama_cpp.llama_set_abort_callback(self._context, callback, None)

    def close(self) -> None:
        """Free the context."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    # --- passes -------------------------------------------------------------------------------------------------

    def _groups(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Numbers of the prompts that are read together: one beginning, none filled up to twice its length."""
        shared = [self._asking.shared(ids) for ids in prompts]
        rest = [len(ids) - start for ids, start in zip(prompts, shared, strict=True)]
        groups: list[list[int]] = []
        for number in sorted(range(len(prompts)), key=lambda n: (shared[n], rest[n], n)):
            group = groups[-1] if groups else []
            # Behind the order, the first of a group is its shortest, and this one is its longest.
            least = rest[group[0]] if group else 0
            alike = group and shared[group[0]] == shared[number] and rest[number] < 2 * least
            alike = alike and (least < TILE) == (rest[number] < TILE)
            if alike and len(group) < self._size and (len(group) + 1) * rest[number] <= TOKENS:
                group.append(number)
            else:
                groups.append([number])
        return groups

    def _read(self, prompts: Sequence[list[int]]) -> list[int]:
        """Bring sequences 1, 2, ... to hold the prompts; where each one's logits lie in the last pass."""
        shared = self._asking.shared(prompts[0])
        beginning, rows = prompts[0][:shared], [ids[shared:] for ids in prompts]
        width = max(map(len, rows))
        self._set_adapter()
        memory = llama_cpp.llama_get_memory(self._context)
        if self._held != beginning:
            self.clear()
            if beginning:
                self._decode([(beginning, 0, 0)], shared)
            self._held = beginning
        for number in range(1, len(rows) + 1):
            llama_cpp.llama_memory_seq_rm(memory, number, -1, -1)
            if beginning:
                llama_cpp.llama_memory_seq_cp(memory, 0, number, -1, -1)
        indices = self._decode([(row, shared, number) for number, row in enumerate(rows, 1)], width)
        for number, row in enumerate(rows, 1):
            llama_cpp.llama_memory_seq_rm(memory, number, shared + len(row), -1)
        return indices

    def _write(self, rows: Sequence[_Row], indices: Sequence[int]) -> None:
        """Token after token, all rows in one pass each; one that is over goes on unheard, so that passes stay alike."""
        for _ in range(self._asking.config.max_tokens):
            for row, index in zip(rows, indices, strict=True):
                if not row.over:
                    token = row.sampler.next(self._context, index)
                    row.ended = self._asking.ends(token)
                    row.over = self._asking.breaks(token)
                    row.written += [] if row.over else [token]
            if all(row.over for row in rows):
                return
            filler = self._asking.tokens.ids[0]
            steps = [([filler if row.over else row.written[-1]], row.place, n) for n, row in enumerate(rows, 1)]
            indices = self._decode(steps, 1)
            for row in rows:
                row.place += 1

    def _set_adapter(self) -> None:
        """Have the context use the adapter."""
        wanted = (self._context, self._adapter)
        if self._set is not None and self._set[0] is wanted[0] and self._set[1] is wanted[1]:
            return
        if set_adapter(self._context, self._adapter) != 0:
            raise InputError("llama.cpp could not switch to the adapter")
        self._set = wanted

    def _decode(self, rows: Sequence[tuple[list[int], int, int]], width: int) -> list[int]:
        """One pass over (ids, first position, sequence); the indices of the last ids."""
        batch, indices = self._batch.fill(rows, width, self._asking.tokens.ids[0])
        decode(self._context, batch, self.stop, self.clear)
        return indices


class RowBatch:
    """llama.cpp's batch over arrays that live as long as the engine: filling it takes no call for each token.

    Args:
        room: tokens at most.
        sequences: how many there are.
        outputs: how many tokens of a pass are asked for their logits at least, where it has so many: llama.cpp takes
            only those through the last layer and the output.
    """

    def __init__(self, room: int, sequences: int, outputs: int = 1) -> None:
        self._outputs = outputs
        self._token, self._place = np.zeros(room, np.int32), np.zeros(room, np.int32)
        self._one, self._wanted = np.ones(room, np.int32), np.zeros(room, np.int8)
        self._numbers = np.arange(sequences, dtype=np.int32)
        self._pointers = np.zeros(room, np.uintp)
        integers = ctypes.POINTER(ctypes.c_int32)
        self._batch = llama_cpp.llama_batch(
            token=self._token.ctypes.data_as(integers),
            pos=self._place.ctypes.data_as(integers),
            n_seq_id=self._one.ctypes.data_as(integers),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(integers)),
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, rows: Sequence[tuple[list[int], int, int]], width: int, filler: int) -> tuple[Any, list[int]]:
        """The batch of rows (ids, first position, sequence), each filled up to a width; logits for their last ids."""
        indices, outputs = [], -(-self._outputs // len(rows))
        for number, (ids, place, sequence) in enumerate(rows):
            span = slice(number * width, (number + 1) * width)
            self._token[span] = [*ids, *[filler] * (width - len(ids))]
            self._place[span] = np.arange(place, place + width)
            self._pointers[span] = self._numbers.ctypes.data + sequence * self._numbers.itemsize
            last = number * width + len(ids) - 1
            self._wanted[span] = 0
            self._wanted[max(span.start, last + 1 - outputs) : last + 1] = 1
            indices.append(last)
        self._batch.n_tokens = len(rows) * width
        return self._batch, indices


def set_adapter(context: Any, adapter: Any) -> int:
    """Have a context use an adapter's handle, or with None none; 0 when it does."""
    handles = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(*([] if adapter is None else [adapter]))
    scales = (ctypes.c_float * 1)(1.0)
    code: int = llama_cpp.llama_set_adapters_lora(context, handles, 0 if adapter is None else 1, scales)
    return code
