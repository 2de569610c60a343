"""Chat format and decision tokens: pure text and ids, no framework. The ids that train are the ids that are served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from candletune.decisions import DECISIONS
from candletune.errors import InputError

Encode = Callable[[str], list[int]]
"""Text to ids: parses control tokens, adds nothing by itself (no BOS)."""

PREFIX = "DECISION:"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What stands around the user's text and ends the assistant's.

    Attributes:
        before: text before the prompt, beginning with BOS.
        after: text between prompt and answer.
        end: text after the answer (EOS).
        control: strings that are control tokens and may not occur in a prompt.
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
        for token in self.control:
            if token in prompt:
                raise InputError(f"prompt: carries the control token {token}; clean the text it came from")
        return f"{self.before}{prompt}{self.after}"

    def answer_text(self, completion: str) -> str:
        """The answer with its end."""
        return completion + self.end


MISTRAL = ChatFormat()


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


def encode_prompt(encode: Encode, prompt: str, bos: int, chat: ChatFormat = MISTRAL) -> list[int]:
    """Ids of everything before the answer.

    Raises:
        InputError: not exactly one BOS at the start.
    """
    ids = encode(chat.prompt_text(prompt))
    if ids.count(bos) != 1 or ids[0] != bos:
        raise InputError(f"prompt: {ids.count(bos)} BOS tokens, expected exactly one, at the start; check base.chat")
    return ids


def encode_example(
    encode: Encode, prompt: str, completion: str, tokens: DecisionTokens, bos: int, chat: ChatFormat = MISTRAL
) -> Example:
    """Ids of a whole example.

    Raises:
        InputError: the completion does not begin with a decision.
    """
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
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return length
