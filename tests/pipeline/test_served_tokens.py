"""Before training: a GGUF that serves asks in the chat, the tokens and the architecture of the folder that trains."""

from collections.abc import Callable
from pathlib import Path

import pytest

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.gguf.model import write_model
from candletune.preflight.served import base_gguf, served_tokens
from random_models import random_base

pytestmark = pytest.mark.llamacpp
Maker = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, texts: tuple[list[str], list[str]]) -> Maker:
    """Folder and GGUF of a random model."""

    def make(name: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("made")
        base = random_base(name, folder / "base", texts[0][:50])
        write_model(base, folder / "x.gguf", number_format="F16", name="x", manifest={}, reporter=SilentReporter())
        return base, folder / "x.gguf"

    return make


def problems(base: Path, served: Path) -> list[str]:
    config = load_config(None, [f"base.model={base}", f"base.gguf={served}"])
    found = [*base_gguf(config), *served_tokens(config)]
    return [finding.text for finding in found if finding.level == "problem"]


def test_one_model_in_two_formats_is_accepted(made: Maker) -> None:
    for name in ("qwen2", "llama, tied"):
        assert problems(*made(name)) == []


def test_other_tokens(made: Maker) -> None:
    """The same sizes and chat; digits are split differently."""
    (base, _), (_, served) = made("llama, tied"), made("llama, biases")
    (found,) = problems(base, served)
    assert "reads a prompt into other tokens than base.model" in found


def test_another_architecture(made: Maker) -> None:
    (base, _), (_, served) = made("qwen2"), made("qwen3, tied")
    (found,) = problems(base, served)
    assert "its architecture is qwen3, base.model's is qwen2" in found


def test_another_chat(made: Maker, tmp_path: Path) -> None:
    base, served = made("qwen2")
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "trader"))
    (found,) = problems(base, served)
    assert "is asked in the chat" in found and "trader" in found
