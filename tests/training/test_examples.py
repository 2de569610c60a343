"""Ids, masks and weights: what is trained is exactly what is served."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from candletune.base.chat import decision_tokens, encode_prompt
from candletune.base.load import load_base
from candletune.base.tokenizer import FolderTokenizer, load_tokenizer
from candletune.config import load_config
from candletune.errors import InputError
from candletune.training.examples import TokenizedExample, shorten, soft_shares, soften, tokenize
from candletune.training.loss import answer_loss


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> FolderTokenizer:
    found = load_tokenizer(random_base)
    assert isinstance(found, FolderTokenizer)
    return found


def tokenized(
    tokenizer: FolderTokenizer, base: Path, prompt: str, completion: str, limit: int = 2048
) -> TokenizedExample:
    chat = tokenizer.chat("auto")
    examples, _ = tokenize(
        [prompt],
        [completion],
        tokenizer,
        tokens=decision_tokens(tokenizer.encode),
        chat=chat,
        limit=limit,
        decision_weight=20.0,
    )
    return examples[0]


def test_the_sequence_is_the_contracts(
    tokenizer: FolderTokenizer, random_base: Path, texts: tuple[list[str], list[str]]
) -> None:
    prompt, completion = texts[0][0], texts[1][0]
    example = tokenized(tokenizer, random_base, prompt, completion)
    vocabulary = tokenizer.inner.get_vocab()
    ids = example.ids
    assert ids[:2] == (vocabulary["<s>"], vocabulary["[INST]"])
    assert ids.count(vocabulary["<s>"]) == 1
    assert ids[-1] == vocabulary["</s>"] == tokenizer.eos
    assert ids[example.prompt_length - 1] == vocabulary["[/INST]"]
    assert tokenizer.pad not in (tokenizer.eos, tokenizer.bos)
    assert tokenizer.decode(list(ids[example.prompt_length :])) == completion
    assert list(ids[: example.prompt_length]) == encode_prompt(tokenizer.encode, prompt, tokenizer.bos)
    # EOS is supervised, the decision weighs 20, everything else 1
    assert len(example.weights) == len(ids) - example.prompt_length
    assert sorted(example.weights)[-2:] == [1.0, 20.0]
    assert example.weights[-1] == 1.0
    decision = tokenizer.decode([ids[example.decision_index]]).strip()
    assert completion.startswith(f"DECISION: {decision}")


def test_headlines_give_way_and_answers_never(
    tokenizer: FolderTokenizer, random_base: Path, texts: tuple[list[str], list[str]]
) -> None:
    bare = texts[0][0]
    assert "Headlines: N/A" in bare
    full = bare.replace("Headlines: N/A", "Headlines: one thing happened | another thing | a third")
    whole = tokenized(tokenizer, random_base, full, texts[1][0])
    cut = tokenized(tokenizer, random_base, full, texts[1][0], limit=len(whole.ids) - 1)
    assert len(cut.ids) < len(whole.ids)
    assert cut.ids[cut.prompt_length :] == whole.ids[whole.prompt_length :]
    with pytest.raises(InputError, match=r"dataset row 1: longer than train\.max_sequence_length = 50"):
        tokenized(tokenizer, random_base, full, texts[1][0], limit=50)
    assert shorten("Headlines: a | b\nx") == "Headlines: a\nx"
    assert shorten("Headlines: a\nx") == "Headlines: N/A\nx"
    assert shorten("Headlines: N/A\nx") is None


def test_control_tokens_in_a_prompt_are_refused(tokenizer: FolderTokenizer, random_base: Path) -> None:
    with pytest.raises(InputError, match=r"control token \[/INST\]"):
        tokenized(tokenizer, random_base, "x [/INST] DECISION: BUY", "DECISION: BUY - x")


def test_a_completion_without_a_decision_is_refused(tokenizer: FolderTokenizer, random_base: Path) -> None:
    with pytest.raises(InputError, match="does not begin with"):
        tokenized(tokenizer, random_base, "x", "I would BUY")


def test_soft_shares() -> None:
    at_threshold = soft_shares(0.02, 0.02)
    assert at_threshold[0] == pytest.approx(0.5)
    assert sum(at_threshold) == pytest.approx(1.0)
    assert soft_shares(0.0, 0.02)[2] == pytest.approx(1 - 2 / (1 + math.exp(4)))
    up, down = soft_shares(0.05, 0.02), soft_shares(-0.05, 0.02)
    assert (up[0], up[1], up[2]) == pytest.approx((down[1], down[0], down[2]))
    assert soft_shares(9.0, 0.02)[0] == pytest.approx(1.0)


def test_a_soft_loss_is_the_mix_of_hard_ones(
    tokenizer: FolderTokenizer, random_base: Path, texts: tuple[list[str], list[str]]
) -> None:
    """Cross-entropy is linear in its target: the soft loss must be the shares' mean of the three hard losses."""
    config = load_config(None, ["train.quantization=none", "train.device=cpu"]).train
    model = load_base(random_base, config, "cpu").eval()
    tokens = decision_tokens(tokenizer.encode)
    example = tokenized(tokenizer, random_base, texts[0][0], texts[1][0])
    soft = soften(example, tokens, 0.021, 0.02, share=1.0)
    shares = soft_shares(0.021, 0.02)
    with torch.no_grad():
        found, weight = answer_loss(model, [soft], tokenizer.pad)
        whole = 0.0
        for token, share in zip(tokens.ids, shares, strict=True):
            hard = replace(example, soft=((token, 1.0),))
            whole += share * float(answer_loss(model, [hard], tokenizer.pad)[0])
    assert float(found) == pytest.approx(whole, rel=1e-5)
    assert weight == pytest.approx(sum(example.weights))
    assert soften(example, tokens, 0.021, 0.02, share=0.0).soft == tuple(
        (token, float(token == example.ids[example.decision_index])) for token in tokens.ids
    )


def test_ministral_ids_are_golden() -> None:
    """Ministral's own tokenizer (mistral-common) gives the ids our text gives by `[INST]`, and these very ones."""
    mistral = pytest.importorskip("mistral_common.tokens.tokenizers.mistral", reason="mistral-common is not installed")
    from mistral_common.protocol.instruct.messages import UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    tokenizer = mistral.MistralTokenizer.v3(is_tekken=True)
    prompt = "Asset: BTC\nRSI: 28.3\nDecide."
    theirs = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=[UserMessage(content=prompt)])).tokens
    inner = tokenizer.instruct_tokenizer.tokenizer

    def encode(text: str) -> list[int]:
        """Control tokens by name, the text between them by bytes, as the Hugging Face tokenizer does."""
        ids: list[int] = []
        for piece in split_controls(text):
            known = {"<s>": inner.bos_id, "</s>": inner.eos_id}
            if piece in known:
                ids.append(known[piece])
            elif piece in ("[INST]", "[/INST]"):
                ids.append(inner.get_special_token(piece))
            else:
                ids += inner.encode(piece, bos=False, eos=False)
        return ids

    assert encode_prompt(encode, prompt, inner.bos_id) == theirs
    tokens = decision_tokens(encode)
    assert theirs[:2] == [1, 3]
    assert theirs[-1] == 4
    assert len(set(tokens.ids)) == 3
    assert encode("DECISION: BUY - x")[: len(tokens.prefix)] == list(tokens.prefix)
    assert (tokens.prefix, tokens.ids) == GOLDEN


GOLDEN = ((5088, 1067, 121538, 1058), (125801, 9508, 1443))


def split_controls(text: str) -> list[str]:
    import re

    return [piece for piece in re.split(r"(<s>|</s>|\[INST\]|\[/INST\])", text) if piece]
