"""What is asked is what is trained: llama.cpp's ids, also where they are not the authors'."""

from pathlib import Path

import pytest

from candletune.base.chat import encode_prompt
from candletune.base.tokenizer import load_tokenizer, served_tokenizer
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.gguf.model import write_model
from random_models import random_base, random_tokenizer, rule_of

pytestmark = pytest.mark.llamacpp
HINDI = "बिटकॉइन में तेज़ी"


def test_a_base_without_bos_has_none_in_llama_cpp(tmp_path: Path, texts: tuple[list[str], list[str]]) -> None:
    """llama.cpp says id 11 of a byte-level file that names no BOS: with Qwen's vocabulary that is the comma."""
    words = tuple(texts[0][:50])
    folder = random_base("qwen2", tmp_path / "base", list(words), bos_token_id=None)
    tokenizer = random_tokenizer(rule_of("qwen2"), words)
    bos, tokenizer.bos_token = tokenizer.bos_token, None
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.bos_token = bos
    served = tmp_path / "x.gguf"
    write_model(folder, served, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    ours = load_tokenizer(served)
    assert ours.bos is None
    every_id = ours.decode(list(range(7, 40)))
    prompt = f"{texts[0][0]}, {every_id}"
    assert 11 in ours.encode(prompt)
    ids = encode_prompt(ours.encode, prompt, ours.bos, ours.chat("auto"))
    trained = load_tokenizer(folder)
    assert ids == encode_prompt(trained.encode, prompt, trained.bos, trained.chat("auto"))


def test_training_takes_the_served_ids(tmp_path: Path, texts: tuple[list[str], list[str]]) -> None:
    """Under Tekken's rule llama.cpp cuts a word at its combining marks; the authors' tokenizer does not."""
    folder = random_base("mistral", tmp_path / "base", [HINDI] * 50 + texts[0][:20])
    served = tmp_path / "x.gguf"
    write_model(folder, served, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    config = load_config(None, [f"base.model={folder}", f"base.gguf={served}", "train.quantization=nf4"])
    assert load_tokenizer(folder).encode(HINDI) != load_tokenizer(served).encode(HINDI)
    assert served_tokenizer(config, folder).encode(HINDI) == load_tokenizer(served).encode(HINDI)
    alone = load_config(None, [f"base.model={folder}", f"run.folder={tmp_path}"])
    assert served_tokenizer(alone, folder).encode(HINDI) == load_tokenizer(folder).encode(HINDI)
