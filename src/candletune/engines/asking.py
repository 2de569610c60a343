"""How a GGUF base is asked: its tokenizer, the chat, where a decision is read, and what an answer's ids say.

The same for llama.cpp in this process and for a server: only ids travel, so that both are asked exactly alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from candletune.base.chat import PREFIX, ChatFormat, common_prefix, decision_tokens, encode_prompt, shown
from candletune.base.gguf_chat import gguf_chat, recorded_chat, with_texts
from candletune.config import EngineConfig
from candletune.decisions import Decision
from candletune.engines import Generation
from candletune.engines.sampling import ANSWER, REASON
from candletune.errors import InputError
from candletune.gguf.header import Header
from candletune.gguf.llama_vocabulary import LlamaVocabulary

FLOAT_ROWS = 32
"""Rows of a matrix product from which llama.cpp hands it to BLAS, where it was built with one (cuBLAS: from nine, over
16-bit weights from seventeen). Fewer, and all without BLAS, its own kernels compute: over quantized weights with
activations rounded to eight bits, over 16-bit weights with activations or sums in 16."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer begins behind, and how it is written.

    Attributes:
        parts: ids before it, cut where other prompts may go on with the same beginning.
        forced: ids of the decision, when it was given.
        grammar: GBNF it is written under; None: none.
    """

    parts: list[list[int]]
    forced: list[int]
    grammar: str | None

    @property
    def ids(self) -> list[int]:
        """What stands before it, in one."""
        return [token for part in self.parts for token in part]


class Asking:
    """Prompts to ids and ids to answers.

    Args:
        base: the base's header.
        vocabulary: its tokenizer, alive as long as this.
        config: context, longest answer, grammar.
        chat: `base.chat`. With `auto` a base that says nothing of its chat is asked in the one that its first adapter
            records, Mistral's where that says nothing either.
        beginning: text every prompt begins with; see `candletune.engines.beginning_of`.

    Attributes:
        tokens: where and by which ids the decisions differ.
        chat: the chat format.
        outputs: tokens that are to go through every layer together, the last one and the output too: `FLOAT_ROWS`, but
            1 over float32 weights.

    Raises:
        InputError: the base's chat or tokenizer can't be used.
    """

    def __init__(
        self, base: Header, vocabulary: LlamaVocabulary, config: EngineConfig, chat: str, beginning: str = ""
    ) -> None:
        self.base, self.vocabulary, self.config, self._text = base, vocabulary, config, beginning
        self.tokens = decision_tokens(vocabulary.encode)
        self.outputs = 1 if base.is_float32 else FLOAT_ROWS
        chat_format, self._chat_known = gguf_chat(base, vocabulary, chat)
        self._ask_in(chat_format)

    def _ask_in(self, chat: ChatFormat) -> None:
        """Take a chat format; only before anything is read."""
        self.chat = chat
        self._beginning = self.vocabulary.encode(chat.before + self._text) if self._text else []
        end = self.vocabulary.encode(chat.end)
        self._end = end[0] if len(end) == 1 else None

    def check_adapter(self, adapter: Header, *, untouched: bool) -> None:
        """Refuse an adapter of another base or chat. An adapter answers in the chat it was trained in, and in no other.

        Args:
            adapter: its header.
            untouched: nothing was asked yet, so that the chat may still be the first adapter's.

        Raises:
            InputError: see `check_adapter`; or another chat.
        """
        check_adapter(adapter, self.base)
        recorded = recorded_chat(adapter)
        if recorded is not None and not self._chat_known and untouched:
            self._ask_in(with_texts(self.chat, recorded, self.vocabulary.text_of(self.vocabulary.bos)))
            self._chat_known = True
        if recorded is not None and recorded != self.chat.texts:
            raise InputError(
                f"{adapter.path}: trained in the chat {shown(recorded)}, but {self.base.path.name} is asked in "
                f"{shown(self.chat.texts)}; set base.chat as in training, or train it again"
            )

    def prompt_ids(self, prompt: str) -> list[int]:
        """See `Engine`."""
        ids = encode_prompt(self.vocabulary.encode, prompt, self.vocabulary.bos, self.chat)
        if len(ids) + self.config.max_tokens > self.config.context:
            raise InputError(
                f"prompt: {len(ids)} tokens and engine.max_tokens = {self.config.max_tokens} exceed engine.context = "
                f"{self.config.context}; shorten the headlines or raise engine.context"
            )
        return ids

    def parts(self, prompt: str) -> list[list[int]]:
        """What is read before the decision token, cut where the template's constant beginning ends."""
        ids = self.scored_ids(prompt)
        shared = self.shared(ids)
        return [ids[:shared], ids[shared:]] if shared else [ids]

    def scored_ids(self, prompt: str) -> list[int]:
        """What is read before the decision token."""
        return [*self.prompt_ids(prompt), *self.tokens.prefix]

    def shared(self, ids: list[int]) -> int:
        """How many of a prompt's ids are the template's constant beginning; none where that or the rest is few."""
        shared = common_prefix([self._beginning, ids])
        rest = len(ids) - shared - len(self.tokens.prefix)
        return shared if min(shared, rest) >= self.outputs else 0

    def answer(self, prompt: str, action: Decision | None) -> Answer:
        """How an answer to a prompt begins; with `action` the decision is given."""
        parts, forced = self.parts(prompt), list[int]()
        if action is None:
            parts[-1] = parts[-1][: -len(self.tokens.prefix)]
        else:
            forced = self.vocabulary.encode(f"{PREFIX} {action} -")
            parts.append(forced[len(self.tokens.prefix) :])
        grammar = (REASON if action else ANSWER) if self.config.grammar else None
        return Answer(parts, forced, grammar)

    @property
    def unwritten(self) -> NDArray[np.int32]:
        """Ids that no answer under a grammar holds: turn markers, which a grammar takes for the text of their names."""
        markers = self.vocabulary.turn_markers
        kept: NDArray[np.int32] = markers[markers != self._end]
        return kept

    def ends(self, token: int) -> bool:
        """Whether the model ended its answer."""
        return token == self._end or self.vocabulary.ends(token)

    def breaks(self, token: int) -> bool:
        """Whether an answer is over: ended, or a turn marker; what would follow that is not this answer any more."""
        return self.ends(token) or self.vocabulary.controls(token)

    def generation(self, answer: Answer, written: Sequence[int], *, ended: bool) -> Generation:
        """The finished answer from the ids written behind the given ones."""
        text = self.vocabulary.decode([*answer.forced, *written]).strip()
        return Generation(text, ended, len(written))


def decision_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of the three decisions from their logits, shape (n, 3)."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


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
    trained, loaded = adapter.manifest.base_sha256, base.manifest.base_sha256
    if trained and loaded and trained != loaded:
        raise InputError(
            f"{adapter.path}: trained on base {trained[:8]}, but {base.path.name} is {loaded[:8]}; use the base it was "
            "trained on"
        )
