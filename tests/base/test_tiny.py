"""The tiny base comes with the package: the weights that were built, for the template that is packaged, and small."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from candletune.base import tiny
from candletune.base.chat import MISTRAL, decision_tokens, encode_prompt
from candletune.base.probabilities import decision_probabilities
from candletune.base.tiny import PACKAGED, PAD, TINY_SHAPE, built_tiny, ensure_tiny, text_digest
from candletune.base.tokenizer import load_tokenizer
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.files import read_json
from candletune.gguf.shape import base_shape
from candletune.preflight.models import base as base_findings
from candletune.prompts.template import load_template

Texts = tuple[list[str], list[str]]


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object, **__: object) -> None:
        raise AssertionError("built, though it is in the package")

    monkeypatch.setattr(tiny, "build", build)


@pytest.fixture
def own_template(tmp_path: Path) -> Path:
    file = tmp_path / "mine.j2"
    file.write_text("Dear model,\n" + load_template().text, encoding="utf-8")
    return file


def settings(cache: Path, *more: str) -> Config:
    return load_config(None, ["base.model=tiny", f"base.cache={cache}", *more])


def test_the_packaged_one_is_used_where_nothing_can_be_written(tmp_path: Path, never_built: None) -> None:
    config = settings(tmp_path / "cache")
    assert ensure_tiny(config, SilentReporter()) == built_tiny(config) == PACKAGED
    assert not (tmp_path / "cache").exists()
    assert [finding.text for finding in base_findings(config)] == ["tiny: comes with candletune"]


def test_a_template_of_ones_own_gets_a_base_of_its_own(
    tmp_path: Path, own_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sequence[str]] = []

    def build(folder: Path, prompts: Sequence[str], *_: object) -> None:
        seen.append(prompts)
        (folder / "candletune.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(tiny, "build", build)
    config = settings(tmp_path / "cache", f"prompt.template={own_template}")
    assert built_tiny(config) is None
    folder = ensure_tiny(config, SilentReporter())
    assert folder.parent == tmp_path / "cache" and built_tiny(config) == folder
    assert ensure_tiny(config, SilentReporter()) == folder
    assert len(seen) == 1 and seen[0][0].startswith("Dear model,")


def test_it_was_made_from_the_texts_of_today() -> None:
    """A changed template or field wants `python bench/tiny_base.py --write`."""
    from candletune.base.tiny_text import pretraining_text

    assert read_json(PACKAGED / "candletune.json")["texts"] == text_digest(*pretraining_text(load_config(None, [])))


def test_it_is_small_and_of_the_tiny_shape() -> None:
    weights = load_file(PACKAGED / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert base_shape(PACKAGED) == TINY_SHAPE
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) < 4_500_000


def test_it_writes_the_format_and_decides_like_a_coin(texts: Texts) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(PACKAGED, dtype=torch.float32, local_files_only=True)
    tokenizer = load_tokenizer(PACKAGED)
    tokens = decision_tokens(tokenizer.encode)
    prompts = [encode_prompt(tokenizer.encode, prompt, tokenizer.bos, MISTRAL) for prompt in texts[0][:24]]
    odds = decision_probabilities(model, prompts, tokens, pad=PAD)
    assert (odds.mean(0) - 1 / 3).abs().max() < 0.1
    written = list(prompts[0])
    with torch.no_grad():
        for _ in range(len(tokens.prefix) + 1):
            written.append(int(model(torch.tensor([written])).logits[0, -1].argmax()))
    assert written[len(prompts[0]) : -1] == list(tokens.prefix)
    assert written[-1] in tokens.ids
