"""Chat format and decision tokens: pure text and ids, no framework. The ids that train are the ids that are served."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from candletune.decisions import DECISIONS
from candletune.errors import InputError

Encode = Callable[[str], list[int]]
"""Text to ids: parses control tokens, adds nothing by itself (no BOS)."""

PREFIX = "DECISION:"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What stands around the user's text and ends the assistant's.

    Attributes:
        before: text before the prompt, with BOS where the base has it.
        after: text between prompt and answer.
        end: the token that ends an answer.
        control: strings that are control tokens and may not occur in a prompt.
        bos_tokens: how often BOS stands in `before` and `after`. Where it is the turn marker it comes with each turn.
    """

    before: str = "<s>[INST]"
    after: str = "[/INST]"
    end: str = "</s>"
    control: tuple[str, ...] = ("<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]")
    bos_tokens: int = 1

    def prompt_text(self, prompt: str) -> str:
        """The whole text before the answer.

        Raises:
            InputError: the prompt carries a control token, which would end the user's turn.
        """
        if found := _any_of(self.control).search(prompt):
            raise InputError(f"prompt: carries the control token {found.group()}; clean the text it came from")
        return f"{self.before}{prompt}{self.after}"

    @property
    def texts(self) -> dict[str, str]:
        """What a manifest says of it: `before`, `after`, `end`."""
        return {"before": self.before, "after": self.after, "end": self.end}

    def answer_text(self, completion: str) -> str:
        """The answer with its end."""
        return completion + self.end


MISTRAL = ChatFormat()


@lru_cache(maxsize=16)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of them in one pass: a base may have a thousand control tokens, a replay ten thousands of prompts."""
    return re.compile("|".join(map(re.escape, filter(None, texts))) or "(?!)")


def shown(texts: dict[str, str]) -> str:
    """A chat's texts on one line, for messages."""
    return repr(f"{texts['before']}..{texts['after']}..{texts['end']}")


def mistral_chat(bos: str, end: str, control: Sequence[str]) -> ChatFormat:
    """Mistral's `[INST]..[/INST]` with a base's own BOS (empty: none), end and control tokens."""
    known = tuple(dict.fromkeys((*MISTRAL.control, *control)))
    return ChatFormat(f"{bos}[INST]", MISTRAL.after, end, known, bos_tokens=1 if bos else 0)


@dataclass(frozen=True, slots=True)
class DecisionTokens:
    """Ids of `DECISION:` and the three first ids by which the decisions differ, in DECISIONS order."""

    prefix: tuple[int, ...]
    ids: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenized example: `ids` = prompt + answer + EOS; `decision_index` is the decision token's position."""

    ids: tuple[int, ...]
    prompt_length: int
    decision_index: int


def decision_tokens(encode: Encode) -> DecisionTokens:
    """Where and by which ids the three decisions differ.

    Raises:
        InputError: the tokenizer does not tell them apart at one position.
    """
    encoded = [encode(f"{PREFIX} {decision} -") for decision in DECISIONS]
    length = 0
    while len({tuple(ids[: length + 1]) for ids in encoded}) == 1:
        length += 1
    first = tuple(ids[length] for ids in encoded)
    if len(set(first)) != len(DECISIONS):
        raise InputError(f"tokenizer: BUY, SELL and HOLD do not differ at one token ({first}); use another base model")
    return DecisionTokens(tuple(encoded[0][:length]), (first[0], first[1], first[2]))


def encode_prompt(encode: Encode, prompt: str, bos: int | None, chat: ChatFormat = MISTRAL) -> list[int]:
    """Ids of everything before the answer.

    Raises:
        InputError: BOS does not stand in it as often as the chat writes it, or one that stands alone is not first.
    """
    ids = encode(chat.prompt_text(prompt))
    bos_count = 0 if bos is None else ids.count(bos)
    if bos_count != chat.bos_tokens or (bos_count == 1 and ids[0] != bos):
        wanted = {0: "none", 1: "exactly one, at the start"}.get(chat.bos_tokens, str(chat.bos_tokens))
        raise InputError(f"prompt: {bos_count} BOS tokens, expected {wanted}; check base.chat")
    return ids


def encode_example(
    encode: Encode, prompt: str, completion: str, tokens: DecisionTokens, bos: int | None, chat: ChatFormat = MISTRAL
) -> Example:
    """Ids of a whole example.

    Raises:
        InputError: the completion does not begin with a decision.
    """
    # The end stands in `answer`, so that it is supervised: the model learns to stop.
    before = encode_prompt(encode, prompt, bos, chat)
    answer = encode(chat.answer_text(completion))
    place = len(tokens.prefix)
    if tuple(answer[:place]) != tokens.prefix or answer[place] not in tokens.ids:
        raise InputError(
            f"completion: {completion[:40]!r} does not begin with 'DECISION: BUY|SELL|HOLD'; rebuild the dataset"
        )
    return Example(tuple(before + answer), len(before), len(before) + place)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading ids all sequences share."""
    if not sequences:
        return 0
    first, last = min(sequences, key=list), max(sequences, key=list)
    same = (one == other for one, other in zip(first, last, strict=False))
    return next((length for length, equal in enumerate(same) if not equal), min(len(first), len(last)))
