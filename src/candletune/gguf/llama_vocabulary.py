"""A GGUF's tokenizer as llama.cpp runs it: text to ids, ids to text, and which tokens are more than text."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from candletune.errors import InputError
from candletune.gguf.log import captured


class LlamaVocabulary:
    """llama.cpp's view of a model's vocabulary.

    Args:
        handle: llama.cpp's `llama_vocab`; it lives as long as its model.

    Attributes:
        bos: id of the beginning-of-sequence token, or None.
        eos: id of the end-of-sequence token, or None.
        adds_bos: whether the tokenizer puts BOS before a text by itself.
        size: how many tokens there are.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.bos = self._mark(llama_cpp.llama_vocab_bos(handle))
        self.eos = self._mark(llama_cpp.llama_vocab_eos(handle))
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(handle))
        self.size = int(llama_cpp.llama_vocab_n_tokens(handle))

    def _mark(self, token: int) -> int | None:
        """None where there is none: of a file that names no BOS (Qwen's), llama.cpp says id 11, which is its comma."""
        return int(token) if token != llama_cpp.LLAMA_TOKEN_NULL and self.controls(token) else None

    def encode(self, text: str) -> list[int]:
        """Ids of a text: control tokens parsed, nothing added.

        Raises:
            InputError: llama.cpp cannot tokenize it.
        """
        data = text.encode()
        room = len(data) + 16
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.handle, data, len(data), buffer, room, False, True)
        if count < 0:
            raise InputError("prompt: llama.cpp cannot tokenize it; remove unusual characters")
        return buffer[:count]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        pieces = []
        buffer = ctypes.create_string_buffer(512)
        for token in ids:
            length = llama_cpp.llama_token_to_piece(self.handle, token, buffer, 512, 0, False)
            pieces.append(buffer.raw[: max(length, 0)])
        return b"".join(pieces).decode("utf-8", "replace")

    def text_of(self, token: int | None) -> str:
        """A token as it is written in a text, control tokens too; empty for None."""
        if token is None:
            return ""
        text = llama_cpp.llama_vocab_get_text(self.handle, token)
        return "" if text is None else text.decode("utf-8", "replace")

    def control(self) -> tuple[str, ...]:
        """Every control token as it is written: none of them may occur in a prompt."""
        handle = self.handle
        marks = (t for t in range(self.size) if llama_cpp.llama_vocab_is_control(handle, t))
        return tuple(text for token in marks if (text := self.text_of(token)))

    @cached_property
    def turn_markers(self) -> NDArray[np.int32]:
        """Ids of the control tokens that do not end a generation."""
        return np.array([t for t in range(self.size) if self.controls(t) and not self.ends(t)], np.int32)

    def controls(self, token: int) -> bool:
        """Whether a token is a control token, such as a turn marker."""
        return bool(llama_cpp.llama_vocab_is_control(self.handle, token))

    def ends(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))


class VocabularyOnly:
    """The vocabulary of a GGUF, loaded without its weights.

    Args:
        path: a base model's GGUF, whose header was checked (`gguf.header.read_header`).

    Raises:
        InputError: llama.cpp cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self._model: Any = None
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        with captured() as log:
            llama_cpp.llama_backend_init()
            self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise InputError(f"{path}: llama.cpp cannot read its vocabulary ({log.last_error()}); download it again")
        self.vocabulary = LlamaVocabulary(llama_cpp.llama_model_get_vocab(self._model))

    def close(self) -> None:
        """Free it; the vocabulary can't be used any more."""
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None
