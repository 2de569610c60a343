"""Messages to token ids and loss weights. Masks come from ids, never from text."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from candletune.base.chat import ChatFormat, DecisionTokens, Example, encode_example
from candletune.base.tokenizer import Tokenizer
from candletune.errors import InputError

_HEADLINES = re.compile(r"^(Headlines: )(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DecisionUtility:
    """What each decision would have earned; see `candletune.training.utility`.

    Attributes:
        ids: tokens of BUY, SELL and HOLD.
        aims: the label's shares of the three, in their order.
        gains: what each earns, in units of the volatility known at the decision.
        weight: hours that the example stands for, against the mean example.
        temperature: what an entropy of one nat is worth, in the unit of the gains.
        share: of the utility in the loss of the decision token; the rest is the label's.
    """

    ids: tuple[int, ...]
    aims: tuple[float, ...]
    gains: tuple[float, ...]
    weight: float = 1.0
    temperature: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """A prompt and its answer as ids, with a loss weight for each answer token (`ids[prompt_length:]`).

    Attributes:
        ids: the whole sequence.
        prompt_length: ids before the answer.
        decision_index: place of the decision token in `ids`.
        weights: of the answer's tokens.
        soft: shares of the decision ids at the decision token, (id, share), in place of the one id; empty: hard.
        utility: of the decisions, in place of a target; None: there is none.
    """

    ids: tuple[int, ...]
    prompt_length: int
    decision_index: int
    weights: tuple[float, ...]
    soft: tuple[tuple[int, float], ...] = ()
    utility: DecisionUtility | None = None


def soft_shares(forward_return: float, threshold: float) -> tuple[float, float, float]:
    """Shares of BUY, SELL and HOLD by a realised return: a label that does not jump at the threshold.

    BUY gets sigma((r - t) / s), SELL sigma((-r - t) / s), HOLD what is left, with s = t / 4: a return a hair above the
    threshold says little more than one a hair below it. The expected cross-entropy against these shares is a proper
    score, so the probabilities it teaches are those of a noisy outcome rather than of the label alone.
    """
    scale = threshold / 4
    buy, sell = (1 / (1 + math.exp(-_bounded((side * forward_return - threshold) / scale))) for side in (1, -1))
    return buy, sell, 1 - buy - sell


def _bounded(value: float) -> float:
    return max(-60.0, min(60.0, value))


def soften(
    example: TokenizedExample, tokens: DecisionTokens, forward_return: float, threshold: float, share: float
) -> TokenizedExample:
    """Replace the decision token's hard target by (1 - share) times it plus `share` times the soft shares."""
    hard = tokens.ids.index(example.ids[example.decision_index])
    soft = soft_shares(forward_return, threshold)
    softened = [share * soft[k] + (1 - share) * (k == hard) for k in range(len(soft))]
    return replace(example, soft=tuple(zip(tokens.ids, softened, strict=True)))


def scale(example: TokenizedExample, factor: float) -> TokenizedExample:
    """The example with every token's loss weight times a factor."""
    return replace(example, weights=tuple(weight * factor for weight in example.weights))


def shorten(prompt: str) -> str | None:
    """The prompt with its last headline dropped (N/A when none is left), or None when there is nothing to drop."""
    match = _HEADLINES.search(prompt)
    if match is None or match[2] == "N/A":
        return None
    kept = match[2].split(" | ")[:-1]
    return prompt[: match.start(2)] + (" | ".join(kept) or "N/A") + prompt[match.end(2) :]


def tokenize(
    prompts: Sequence[str],
    completions: Sequence[str],
    tokenizer: Tokenizer,
    *,
    tokens: DecisionTokens,
    chat: ChatFormat,
    limit: int,
    decision_weight: float,
) -> tuple[list[TokenizedExample], int]:
    """Tokenize a dataset.

    Args:
        prompts: user contents.
        completions: answers, in the same order.
        tokenizer: the base's.
        tokens: the base's decision tokens.
        chat: the base's chat format.
        limit: tokens an example may have; a longer prompt loses headlines, the answer nothing.
        decision_weight: loss weight of the decision token; the others weigh 1.

    Returns:
        The examples and how many prompts were shortened.

    Raises:
        InputError: an example is too long without headlines too; names its row.
    """
    examples, shortened = [], 0
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), start=1):
        text: str | None = prompt
        example: Example | None = None
        while text is not None:
            example = encode_example(tokenizer.encode, text, completion, tokens, tokenizer.bos, chat)
            if len(example.ids) <= limit:
                break
            text = shorten(text)
        if text is None or example is None:
            raise InputError(
                f"dataset row {row}: longer than train.max_sequence_length = {limit} even without headlines; raise it"
            )
        shortened += text is not prompt
        examples.append(weigh(example, decision_weight))
    return examples, shortened


def weigh(example: Example, decision_weight: float) -> TokenizedExample:
    """Give the decision token its weight; every other answer token, EOS included, weighs 1."""
    weights = [1.0] * (len(example.ids) - example.prompt_length)
    weights[example.decision_index - example.prompt_length] = decision_weight
    return TokenizedExample(example.ids, example.prompt_length, example.decision_index, tuple(weights))
