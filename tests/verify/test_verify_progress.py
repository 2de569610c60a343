"""No pass over the prompts of a certificate is silent."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters import make_adapter
from candletune.config import load_config
from candletune.console import Pace, SilentReporter
from candletune.engines.certify import ask_export
from candletune.gguf.adapter import write_adapter
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape


class Listening(SilentReporter):
    """Keeps every task with the size of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[tuple[Pace, list[float]]] = []

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator["_Kept"]:
        kept = _Kept(Pace(title, total), [])
        self.tasks.append((kept.pace, kept.steps))
        yield kept


class _Kept:
    def __init__(self, pace: Pace, steps: list[float]) -> None:
        self.pace, self.steps = pace, steps

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        self.pace.advance(steps, note)
        self.steps.append(steps)

    def resume(self, done: float) -> None:
        self.pace.resume(done)


@pytest.mark.llamacpp
def test_every_pass_tells_how_far_it_is(random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]) -> None:
    shape = read_shape(random_base)
    adapter = read_adapter(make_adapter(random_base, tmp_path / "a"), shape)
    write_adapter(adapter, shape, tmp_path / "a.gguf", number_format="F32", manifest={}, name="a")
    write_model(random_base, tmp_path / "b.gguf", number_format="F32", name="b", manifest={}, reporter=SilentReporter())
    prompts = (texts[0] * 3)[:24]
    config = load_config(None, ["engine.threads=1", "engine.max_tokens=2"])
    heard = Listening()
    answers = ask_export(
        tmp_path / "a.gguf", tmp_path / "b.gguf", config, prompts, heard, asked=range(0, 24, 2), merged=False
    )
    assert answers.repeatable
    assert answers.probabilities.shape == (24, 3)
    passes = [(pace.title, pace.total, pace.done) for pace, _ in heard.tasks]
    titles = ("verify: answers", "verify: the bare base", "verify: asked again")
    assert passes == [("verify: decisions", 24, 24), *((title, 12, 12) for title in titles)]
    assert max(step for _, steps in heard.tasks for step in steps) <= 10
