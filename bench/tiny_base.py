#!/usr/bin/env python3
"""Make the packaged tiny base again, and hold it against the one in the package.

Pre-training ends in other digits on another processor, so the two are compared by what they answer, on prompts of a
market that neither has seen: how well each foretells the texts' tokens, how often both name the same next token, and
how far each one's decisions are from a coin's. With `--write` the new one takes the place of the packaged one, in
bfloat16; every figure that the demo gave before then changes in its last digits.

Usage: python bench/tiny_base.py [--folder FOLDER] [--write]
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from candletune.base.chat import common_prefix, decision_tokens, encode_example, encode_prompt
from candletune.base.probabilities import decision_probabilities
from candletune.base.tiny import PACKAGED, PAD, STEPS, VERSION, build, text_digest
from candletune.base.tiny_text import pretraining_text
from candletune.base.tokenizer import load_tokenizer
from candletune.config import load_config
from candletune.console import RichReporter
from candletune.files import copy, read_json, write_json

MOST_LOSS_APART = 0.03
"""Nats a token; ten prompts more or less in training move it by about as much."""
LEAST_SAME_TOKENS = 0.9
"""Set after the first comparison, which gave 94.1 %: many places are digits of a price, which nothing foretells."""
MOST_FROM_A_COIN = 0.15
"""Of the mean probability of a decision from a third."""
PROMPTS = 200


@dataclass(frozen=True, slots=True)
class Answers:
    """What a base says about the texts.

    Attributes:
        loss: nats a token, behind what all prompts begin with.
        next: the most probable next token at every place.
        decisions: mean probabilities of BUY, SELL and HOLD.
    """

    loss: float
    next: torch.Tensor
    decisions: torch.Tensor


def unseen_texts() -> tuple[list[str], list[str]]:
    """Prompts and answers of other seeds than those that taught it."""
    prompts, completions = pretraining_text(load_config(None, []), seed=98)
    every = len(prompts) // PROMPTS
    return prompts[::every][:PROMPTS], completions[::every][:PROMPTS]


@torch.no_grad()
def answers(folder: Path, prompts: list[str], completions: list[str]) -> Answers:
    """Ask a base, in float32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = load_tokenizer(folder)
    tokens, bos = decision_tokens(tokenizer.encode), tokenizer.bos
    pairs = zip(prompts, completions, strict=True)
    texts = [encode_example(tokenizer.encode, prompt, completion, tokens, bos).ids for prompt, completion in pairs]
    shared = common_prefix(texts)  # pre-training left out what all prompts begin with
    losses, following = [], []
    for text in texts:
        ids = torch.tensor([text])
        logits = model(ids).logits[0, shared:-1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, shared + 1 :]))
        following.append(logits.argmax(-1))
    asked = [encode_prompt(tokenizer.encode, prompt, bos) for prompt in prompts]
    odds = decision_probabilities(model, asked, tokens, pad=PAD)
    return Answers(torch.stack(losses).mean().item(), torch.cat(following), odds.mean(0))


def alike(packaged: Answers, other: Answers) -> list[str]:
    """What sets them apart; empty when nothing that matters does."""
    same = (packaged.next == other.next).double().mean().item()
    coin = max((base.decisions - 1 / 3).abs().max().item() for base in (packaged, other))
    print(
        f"loss a token {packaged.loss:.4f} and {other.loss:.4f} nats; {same:.2%} of the next tokens are the same; "
        f"decisions {_percent(packaged.decisions)} and {_percent(other.decisions)}"
    )
    faults = []
    if abs(packaged.loss - other.loss) > MOST_LOSS_APART:
        faults.append(f"losses are more than {MOST_LOSS_APART} nats apart")
    if same < LEAST_SAME_TOKENS:
        faults.append(f"fewer than {LEAST_SAME_TOKENS:.0%} of the next tokens are the same")
    if coin > MOST_FROM_A_COIN:
        faults.append(f"a decision is more than {MOST_FROM_A_COIN} from a third")
    return faults


def _percent(odds: torch.Tensor) -> str:
    return " ".join(f"{value:.1%}" for value in odds.tolist())


def package(built: Path) -> None:
    """Put a base into the package, its weights rounded to bfloat16."""
    for file in sorted(built.iterdir()):
        if file.suffix in (".json", ".jinja") and file.name != "candletune.json":
            copy(file, PACKAGED / file.name)
    config = read_json(PACKAGED / "config.json")
    write_json(PACKAGED / "config.json", config | {"dtype": "bfloat16"})
    weights = {name: value.to(torch.bfloat16) for name, value in load_file(built / "model.safetensors").items()}
    save_file(weights, PACKAGED / "model.safetensors", metadata={"format": "pt"})
    prompts, completions = pretraining_text(load_config(None, []))
    about = {"version": VERSION, "steps": STEPS, "examples": len(prompts), "texts": text_digest(prompts, completions)}
    write_json(PACKAGED / "candletune.json", about)


def main() -> int:
    """Build, compare, and perhaps write; exit code 4 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="a base built before; none: one is built now")
    parser.add_argument("--write", action="store_true", help="the new one takes the packaged one's place")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = wanted.folder or Path(scratch)
        if wanted.folder is None:
            begun = time.monotonic()
            build(folder, *pretraining_text(load_config(None, [])), RichReporter())
            print(f"built in {time.monotonic() - begun:.0f} s")
        texts = unseen_texts()
        faults = alike(answers(PACKAGED, *texts), answers(folder, *texts))
        print("\n".join(faults) or "they answer alike")
        if wanted.write:
            package(folder)
            return 0
    return 4 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
