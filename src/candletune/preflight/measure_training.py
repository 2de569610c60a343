"""One optimizer step, timed by the engine that will train."""

import random
import time
from pathlib import Path

from candletune.base.chat import decision_tokens
from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.fields.registry import EXAMPLE
from candletune.prompts.reasons import write_completion
from candletune.prompts.template import load_template

PASS = 8
"""Examples a timed training call has, at most."""


def prompts_of(config: Config, count: int) -> list[str]:
    """Prompts that differ behind what the template begins with, as a replay's do."""
    template = load_template(config.prompt.template)
    return [template.render({**EXAMPLE, "price_usd": EXAMPLE["price_usd"] * (1 + n / 97)}) for n in range(count)]


@quiet()
def train_seconds(config: Config, base: Path) -> float:
    """Of one optimizer step, by the engine that will train: the loss of a few examples and its gradients, scaled."""
    import torch

    from candletune.base.load import pick_device
    from candletune.base.tokenizer import load_tokenizer
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.examples import tokenize

    train, device = config.train, pick_device(config.train.device)
    tokenizer = load_tokenizer(base)
    completion = write_completion(EXAMPLE, "HOLD", random.Random(config.seed))[1]  # noqa: S311
    examples, _ = tokenize(
        prompts_of(config, train.effective_batch),
        [completion] * train.effective_batch,
        tokenizer,
        tokens=decision_tokens(tokenizer.encode),
        chat=tokenizer.chat(config.base.chat),
        limit=train.max_sequence_length,
        decision_weight=train.decision_weight,
    )
    model = load_model(base, train, device, config.seed)
    engine = open_engine(model, EngineSetup(train, examples, tokenizer.pad, lambda _: None))
    part = examples[: min(PASS, engine.call_size)]
    try:
        seconds = []
        for _ in range(3):  # the first one compiles and allocates
            began = time.perf_counter()
            engine.loss(part)[0].backward()  # type: ignore[no-untyped-call]
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
            model.zero_grad()
    finally:
        engine.close()
    return min(seconds) * train.effective_batch / len(part)
