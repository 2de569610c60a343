"""The next token from llama.cpp's logits, under a grammar when there is one."""

import ctypes
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

ANSWER = r"""
root ::= "DECISION: " ("BUY" | "SELL" | "HOLD") " - " reason
reason ::= [^\x00-\x1F\x7F]+
"""
REASON = r"root ::= [^\x00-\x1F\x7F]+"
_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Chooses token after token of one answer.

    The grammar is asked about the chosen token first, about the whole vocabulary only when it refuses that one: with
    131,072 tokens this takes microseconds where the whole takes tens of milliseconds. A greedy choice is the same.

    Args:
        vocab: llama.cpp's vocabulary.
        grammar: GBNF with a rule `root`; none: every token is allowed.
        temperature: 0 takes the likeliest.
        markers: ids that no answer under a grammar holds. A grammar sees a turn marker as the text it is written as.
    """

    def __init__(self, vocab: Any, grammar: str | None, temperature: float, markers: NDArray[np.int32]) -> None:
        self._grammar = None
        self._markers = markers
        if grammar is not None:
            self._grammar = llama_cpp.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        self._size = llama_cpp.llama_vocab_n_tokens(vocab)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if temperature > 0:
            llama_cpp.llama_sampler_chain_add(self._chain, llama_cpp.llama_sampler_init_temp(temperature))
            llama_cpp.llama_sampler_chain_add(self._chain, llama_cpp.llama_sampler_init_dist(0))
        else:
            llama_cpp.llama_sampler_chain_add(self._chain, llama_cpp.llama_sampler_init_greedy())

    def next(self, context: Any, index: int = -1) -> int:
        """The token that follows what the context decoded last, or its token of that index in the batch."""
        token: int = llama_cpp.llama_sampler_sample(self._chain, context, index)
        if self._grammar is None:
            return token
        entries = np.zeros(1, _ENTRY)
        entries["id"] = token
        self._apply(self._grammar, entries)
        if np.isneginf(entries["logit"][0]) or token in self._markers:
            entries = np.zeros(self._size, _ENTRY)
            entries["id"] = np.arange(self._size)
            logits = llama_cpp.llama_get_logits_ith(context, index)
            entries["logit"] = np.ctypeslib.as_array(logits, shape=(self._size,))
            entries["logit"][self._markers] = -np.inf
            self._apply(self._grammar, entries)
            token = int(entries["id"][self._apply(self._chain, entries)])
        llama_cpp.llama_sampler_accept(self._grammar, token)
        return token

    def close(self) -> None:
        """Free what llama.cpp holds for it."""
        llama_cpp.llama_sampler_free(self._chain)
        if self._grammar is not None:
            llama_cpp.llama_sampler_free(self._grammar)

    @staticmethod
    def _apply(sampler: Any, entries: Any) -> int:
        """Pass candidates through a sampler, in place; the index it selected, or -1."""
        data = entries.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(data=data, size=len(entries), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        return int(array.selected)
