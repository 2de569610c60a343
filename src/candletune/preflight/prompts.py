"""Checks of prompts and answers: how long they are against what is taken, and the chat that stands around them."""

import random
from collections.abc import Iterator, Sequence

from candletune.base.tiny import built_tiny
from candletune.config import Config
from candletune.decisions import DECISIONS
from candletune.errors import CandletuneError
from candletune.fields.registry import EXAMPLE
from candletune.preflight.findings import Finding, check
from candletune.prompts.reasons import write_completion
from candletune.prompts.template import load_template
from candletune.stages.needs import known_base

LEAST_TOKENS = 6
"""Characters that a token stands for, at most on average: a bound where no tokenizer is at hand."""
ANSWERS = 50
"""Answers of each class that are written to see how long they are."""


@check("prompt length", "train", "verify", "replay")
def prompt_length(config: Config) -> Iterator[Finding]:
    """A prompt of the template against the longest that training and llama.cpp take."""
    try:
        prompt = load_template(config.prompt.template).render(EXAMPLE)
        exact, (tokens,) = _counted(config, [prompt])
    except CandletuneError:
        return  # said by the checks of template and base
    words = f"a prompt has {'about' if exact else 'at least'} {tokens} tokens"
    # Training shortens headlines, so only a prompt that is far too long must fail.
    for key, limit, least in (
        ("engine.context", config.engine.context, tokens + config.engine.max_tokens),
        ("train.max_sequence_length", config.train.max_sequence_length, tokens * 3 // 4),
    ):
        if least > limit:
            answer = f" and engine.max_tokens wants {config.engine.max_tokens}" if key == "engine.context" else ""
            text = f"{key}: {words}{answer}, more than {limit}; raise it, or shorten the template"
            yield Finding("problem", "prompt", text, exit_code=2)


@check("answer length", "train", "verify")
def answer_length(config: Config) -> Iterator[Finding]:
    """`engine.max_tokens` against the answers that training teaches: `verify` wants them to end by themselves."""
    share = config.verify.min_parsed
    try:
        visible, rng = load_template(config.prompt.template).visible(EXAMPLE), random.Random(config.seed)  # noqa: S311
        answers = [write_completion(visible, label, rng)[1] for label in DECISIONS for _ in range(ANSWERS)]
        exact, lengths = _counted(config, answers)
    except CandletuneError:
        return  # said by the checks of template and base
    # The end token is one more.
    needed = sorted(lengths)[min(len(lengths) - 1, int(share * len(lengths)))] + 1
    if share and config.engine.max_tokens < needed:
        text = (
            f"engine.max_tokens: {share:.0%} of the answers must end by themselves (verify.min_parsed), and those that "
            f"training teaches take {'up to about' if exact else 'at least'} {needed} tokens, more than "
            f"{config.engine.max_tokens}; raise it"
        )
        yield Finding("problem", "answers", text, exit_code=2)


def _counted(config: Config, texts: Sequence[str]) -> tuple[bool, list[int]]:
    """Whether a tokenizer counted, and how many tokens each text has (or has at least)."""
    path = built_tiny(config) if config.builds_tiny else known_base(config).path
    if path is None or not (path.is_file() or (path / "tokenizer.json").is_file()):
        return False, [len(text) // LEAST_TOKENS for text in texts]
    from candletune.base.tokenizer import load_tokenizer

    encode = load_tokenizer(path).encode
    return True, [len(encode(text)) for text in texts]


@check("chat format", "train", "verify")
def chat(config: Config) -> Iterator[Finding]:
    """A base's chat template must show prompt and answer once, unless `base.chat = "mistral"` passes it over."""
    if config.base.chat == "mistral" or config.builds_tiny:
        return
    path = known_base(config).path
    if path is not None:
        from candletune.base.tokenizer import load_tokenizer

        chat = load_tokenizer(path).chat(config.base.chat)
        yield Finding("ok", "chat format", " ".join(f"{chat.before}..{chat.after}..{chat.end}".split()))
