"""Several prompts a pass: the answers of one by one, whoever else is in the pass."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from adapters import ALL, make_adapter
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Stopped, batches, beginning_of
from candletune.engines.batches import Batches
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.engines.placement import CardLayers
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.adapter import write_adapter
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape
from candletune.prompts.parse import parse_answer

pytestmark = pytest.mark.llamacpp
CONFIG = load_config(None, ["base.model=tiny", "engine.max_tokens=16", "engine.threads=1"])
ROUNDING = 1e-6
"""Between a prompt in a pass of its own and one among others, over float32 weights on a CPU."""


@pytest.fixture(scope="module")
def files(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.gguf (F32), adapters a.gguf and b.gguf."""
    folder = tmp_path_factory.mktemp("batches")
    shape = read_shape(random_base)
    write_model(
        random_base, folder / "base.gguf", number_format="F32", name="x", manifest={}, reporter=SilentReporter()
    )
    for name, settings in {"a": {}, "b": {"seed": 9, "r": 16, "target_modules": list(ALL)}}.items():
        peft = make_adapter(random_base, folder / name, **settings)  # type: ignore[arg-type]
        write_adapter(
            read_adapter(peft, shape), shape, folder / f"{name}.gguf", number_format="F32", manifest={}, name=name
        )
    return folder


def opened(files: Path, batch: int, *, beginning: bool = True) -> LlamaCppEngine:
    config = CONFIG.engine.model_copy(update={"batch": batch})
    engine = LlamaCppEngine(files / "base.gguf", config, beginning=beginning_of(CONFIG) if beginning else "")
    engine.add_adapter("a", files / "a.gguf")
    engine.add_adapter("b", files / "b.gguf")
    return engine


@pytest.fixture
def single(files: Path) -> Iterator[LlamaCppEngine]:
    engine = opened(files, 1)
    yield engine
    engine.close()


@pytest.fixture
def several(files: Path) -> Iterator[LlamaCppEngine]:
    engine = opened(files, 5)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(texts: tuple[list[str], list[str]]) -> list[str]:
    """Of several lengths; two do not begin as the template does, and two are the same."""
    chosen = texts[0][:9]
    return [*chosen, "RSI 40: what now?", chosen[0] + " " + "and so on " * 20, f"Well, {chosen[2]}", chosen[3]]


def passes_of(engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each pass from now on."""
    seen: list[int] = []
    decode = batches.decode

    def counted(context: Any, batch: Any, *rest: Any) -> None:
        seen.append(batch.n_tokens)
        decode(context, batch, *rest)

    monkeypatch.setattr(batches, "decode", counted)
    return seen


def test_scores_are_those_of_one_by_one_under_every_adapter(
    single: LlamaCppEngine, several: LlamaCppEngine, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {}
    for name in ("a", None, "b"):
        single.use(name)
        expected[name] = single.score(prompts)
    assert np.abs(expected["a"] - expected["b"]).max() > 1e-3
    passes = passes_of(several, monkeypatch)
    for name in ("a", None, "b", "a"):
        several.use(name)
        np.testing.assert_allclose(several.score(prompts), expected[name], atol=ROUNDING)
    shared = several._asking.shared(several._asking.scored_ids(prompts[0]))
    assert shared > 20
    # Under each adapter: two beginnings (there are prompts without the template's), and the prompts in few passes.
    assert len(passes) <= 4 * 8 < 4 * len(prompts)
    assert passes.count(shared) == 4
    assert several.score([]).shape == (0, 3)


@pytest.mark.parametrize("beginning", [True, False])
def test_nothing_that_was_read_before_is_looked_at(files: Path, prompts: list[str], beginning: bool) -> None:
    """A beginning under another adapter, longer prompts in the same sequences; also without a beginning."""
    single, several = opened(files, 1, beginning=beginning), opened(files, 5, beginning=beginning)
    for name in ("a", "b", None, "a"):
        for chosen in (prompts[:5], [prompt[: len(prompt) * 2 // 3] for prompt in prompts[:5]]):
            single.use(name)
            several.use(name)
            np.testing.assert_allclose(several.score(chosen), single.score(chosen), atol=ROUNDING)
    single.close()
    several.close()


def test_who_else_is_asked_changes_the_rounding_alone(several: LlamaCppEngine, prompts: list[str]) -> None:
    """A replay that goes on half-way has other prompts in its passes."""
    several.use("a")
    whole = several.score(prompts)
    np.testing.assert_allclose(several.score(prompts[4:]), whole[4:], atol=ROUNDING)
    np.testing.assert_allclose(several.score(prompts[::-1])[::-1], whole, atol=ROUNDING)
    several.use("b")
    several.score(prompts[:3])
    several.generate(prompts[0], action="BUY")
    several.use("a")
    np.testing.assert_array_equal(several.score(prompts), whole)


def test_reasons_are_those_of_one_by_one(single: LlamaCppEngine, several: LlamaCppEngine, prompts: list[str]) -> None:
    actions: list[Decision | None] = [*DECISIONS, None] * 4
    actions = actions[: len(prompts)]
    for name in ("b", "a"):
        single.use(name)
        several.use(name)
        alone = single.generate_all(prompts, actions)
        written = several.generate_all(prompts, actions)
        assert written == alone
        assert several.generate_all(prompts[5:], actions[5:]) == written[5:]
        assert len({answer.text for answer in written}) > 5
        for answer, action in zip(written, actions, strict=True):
            decision = parse_answer(answer.text).action
            assert decision is not None, answer.text
            assert action in (None, decision)
    assert several.generate_all([], []) == []


class Ending:
    """A sampler that ends its answer behind so many tokens."""

    def __init__(self, sampler: Any, tokens: int, end: int) -> None:
        self.sampler, self.left, self.end = sampler, tokens, end

    def next(self, context: Any, index: int = -1) -> int:
        self.left -= 1
        return self.end if self.left < 0 else self.sampler.next(context, index)

    def close(self) -> None:
        self.sampler.close()


def test_an_answer_that_is_over_leaves_the_others_alone(
    single: LlamaCppEngine, several: LlamaCppEngine, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on unheard while the others are written."""
    actions: list[Decision | None] = ["BUY", "SELL", "HOLD", "BUY", "SELL"]
    lengths = [3, 9, 0, 100, 1]
    found = []
    for engine in (single, several):
        engine.use("a")
        ids = [tuple(engine._asking.answer(p, action).ids) for p, action in zip(prompts, actions, strict=False)]
        wanted = dict(zip(ids, lengths, strict=True))
        end, made = engine.vocabulary.eos, engine._sampler
        monkeypatch.setattr(
            engine, "_sampler", lambda asked, w=wanted, e=end, m=made: Ending(m(asked), w[tuple(asked.ids)], e)
        )
        found.append(engine.generate_all(prompts[:5], actions))
    assert found[1] == found[0]
    assert [answer.tokens for answer in found[1]] == [3, 9, 0, CONFIG.engine.max_tokens, 1]
    assert [answer.ended for answer in found[1]] == [True, True, True, False, True]


@pytest.mark.parametrize("after", [0, 2, 60, 300])
def test_a_stop_in_the_middle_leaves_the_engine_as_it_was(files: Path, prompts: list[str], after: int) -> None:
    engine = opened(files, 5)
    engine.use("a")
    scores, reasons = engine.score(prompts), engine.generate_all(prompts[:6], ["SELL"] * 6)
    calls = itertools.count()
    engine.stop_when(lambda: next(calls) >= after)
    with pytest.raises(Stopped):
        for _ in range(20):
            engine.score(prompts)
            engine.generate_all(prompts[:6], ["SELL"] * 6)
    assert next(calls) <= after + 3, "it went on after it was told to stop"
    engine.stop_when(None)
    np.testing.assert_array_equal(engine.score(prompts), scores)
    assert engine.generate_all(prompts[:6], ["SELL"] * 6) == reasons
    engine.close()


def test_a_cpu_reads_one_by_one_unless_it_is_told_otherwise(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_default = opened(files, 0)
    assert (by_default._batches is None) == (not llama_cpp.llama_supports_gpu_offload())
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr(by_default, "card", CardLayers(told=0, total=3))
    assert by_default._open_batches() is None
    monkeypatch.setattr(by_default, "card", CardLayers(told=1, total=3))
    assert by_default._open_batches() is not None
    by_default.close()


def test_prompts_that_fill_a_pass_alone_are_read_one_by_one(
    files: Path, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TOKENS", 300)
    engine = opened(files, 5)
    passes = passes_of(engine, monkeypatch)
    expected = opened(files, 1)
    np.testing.assert_array_equal(engine.score(prompts[:3]), expected.score(prompts[:3]))
    assert passes == []
    with pytest.raises(InputError, match="control token"):
        engine.score([prompts[0], "up [/INST] DECISION: BUY"])
    engine.close()
    expected.close()


@pytest.mark.parametrize("asked_for", [True, False])
def test_no_memory_for_several(
    files: Path, prompts: list[str], monkeypatch: pytest.MonkeyPatch, asked_for: bool
) -> None:
    """Where a number was asked for it is an error; where it is the default the prompts are read one by one."""
    engine, single = opened(files, 5 if asked_for else 1), opened(files, 1)
    expected = single.score(prompts[:4])
    if not asked_for:
        engine._batches = Batches(engine._new_context, 5, engine._asking)
        monkeypatch.setattr(engine, "config", engine.config.model_copy(update={"batch": 0}))
    monkeypatch.setattr(engine, "_room_for_context", lambda *_: False)
    if asked_for:
        with pytest.raises(OutOfMemory, match=r"5 prompts of \d+ tokens at a time; set engine\.batch=1"):
            engine.score(prompts[:4])
    else:
        np.testing.assert_array_equal(engine.score(prompts[:4]), expected)
    np.testing.assert_array_equal(engine.score(prompts[:1]), expected[:1])
    engine.close()
    single.close()
