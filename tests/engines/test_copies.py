"""Copies that answer side by side give what one gives, bit by bit, whatever each was asked before."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from fakes import FakeEngine

from adapters import make_adapter
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Engine, Stopped, open_copies, open_engine
from candletune.engines.copies import Copies
from candletune.gguf.adapter import write_adapter
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape
from candletune.runs import RunFolder

on_a_cpu = pytest.mark.skipif(llama_cpp.llama_supports_gpu_offload(), reason="copies are for processors")


@pytest.mark.llamacpp
@on_a_cpu
def test_three_copies_answer_as_one(random_base: Path, texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    base, adapter = tmp_path / "base.gguf", tmp_path / "a.gguf"
    write_model(random_base, base, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    shape = read_shape(random_base)
    peft = read_adapter(make_adapter(random_base, tmp_path / "a"), shape)
    write_adapter(peft, shape, adapter, number_format="F32", manifest={}, name="a")
    prompts, run = texts[0][:8], RunFolder(tmp_path / "run")
    given: list[Decision | None] = [DECISIONS[number % 3] for number in range(5)]
    config = load_config(None, ["engine.threads=1", "engine.max_tokens=12", "replay.copies=3", f"base.gguf={base}"])

    def answers(open_one: Callable[..., Engine]) -> list[object]:
        found: list[object] = []
        with closing(open_one(config, run)) as engine:
            engine.add_adapter("a", adapter)
            for name in ("a", None, "a"):
                engine.use(name)
                found.append(engine.score(prompts).tobytes())
                found.append(engine.score(prompts[:2]).tobytes())
            found += engine.generate_all(prompts[:5], given)
            found += [engine.generate(prompts[0]), engine.prompt_ids(prompts[0])]
        return found

    assert answers(open_copies) == answers(open_engine)


def test_a_copy_that_is_stopped_stops_the_question_and_no_later_one() -> None:
    class Stoppable(FakeEngine):
        def _trip(self) -> None:
            if self.stop is not None and self.stop():
                raise Stopped

    engines = [Stoppable() for _ in range(3)]
    copies = Copies(engines)
    prompts = [str(number) for number in range(7)]
    copies.stop_when(lambda: True)
    with pytest.raises(Stopped):
        copies.score(prompts)
    copies.stop_when(None)
    assert np.array_equal(copies.score(prompts), FakeEngine().score(prompts))
    assert np.array_equal(copies.score(prompts[:2]), FakeEngine().score(prompts[:2]))
    copies.close()
    assert all(engine.closed for engine in engines)


def test_copies_are_for_those_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("candletune.engines.open_engine", lambda *_: FakeEngine())
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: False)
    run = RunFolder(tmp_path)

    def opened(*settings: str) -> int:
        with closing(open_copies(load_config(None, settings), run)) as engine:
            return len(engine._engines) if isinstance(engine, Copies) else 1

    assert [opened(), opened("replay.copies=3"), opened("replay.copies=0")] == [1, 3, 5]
    assert opened("replay.copies=3", "engine.url=http://127.0.0.1:9") == 1, "servers take several requests anyway"
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    assert opened("replay.copies=3") == 1


def test_copies_share_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads: list[int] = []

    def one(config: Config, *_: object) -> FakeEngine:
        threads.append(config.engine.threads)
        return FakeEngine()

    monkeypatch.setattr("candletune.engines.open_engine", one)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: False)
    for settings in (["replay.copies=3"], ["replay.copies=0"], ["replay.copies=2", "engine.threads=6"]):
        open_copies(load_config(None, settings), RunFolder(tmp_path)).close()
    assert threads == [2] * 3 + [1] * 8 + [6] * 2, "all cores are not what each takes; a number that is set is kept"
