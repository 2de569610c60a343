"""PyTorch over a served base's blocks decides as llama.cpp does, for several adapters in one pass."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import ALL, make_adapter
from candletune.artifacts import ExportSummary
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.engines.llama_cpp import open_gguf
from candletune.engines.packed import PackedScorer, refusal
from candletune.errors import InputError
from candletune.gguf.adapter import write_adapter
from candletune.gguf.header import read_header
from candletune.gguf.lora import read_lora
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.journal import Journal, Row, read_frame
from candletune.model_shape import read_shape
from candletune.runs import RunFolder
from candletune.stages import replay as replay_module
from candletune.stages import torch_control, torch_replay
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.replay import replay
from candletune.stages.runner import run_stage
from simulated_run import config_of
from stage_entries import record_stage

pytestmark = pytest.mark.llamacpp
CONFIG = load_config(None, ["engine.threads=1", "engine.max_tokens=12", "train.device=cpu"])
PROMPTS = 7
ADAPTERS: dict[str, dict[str, Any]] = {"a": {}, "b": {"seed": 9, "r": 16, "target_modules": list(ALL)}}


@pytest.fixture(scope="module")
def files(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    shape = read_shape(random_base)
    write_model(
        random_base, folder / "base.gguf", number_format="F32", name="x", manifest={}, reporter=SilentReporter()
    )
    for name, settings in ADAPTERS.items():
        peft = read_adapter(make_adapter(random_base, folder / name, **settings), shape)
        write_adapter(peft, shape, folder / f"{name}.gguf", number_format="F32", manifest={}, name=name)
    return folder


@pytest.fixture(scope="module")
def prompts(texts: tuple[list[str], list[str]]) -> list[str]:
    return texts[0][:PROMPTS]


def scorer_of(files: Path, prompts: list[str]) -> PackedScorer:
    scorer = PackedScorer(files / "base.gguf", CONFIG, pytest.fail)
    for name in ("a", "b"):
        scorer.add_adapter(name, files / f"{name}.gguf")
    scorer.prepare(prompts)
    return scorer


def test_packed_scores_are_llama_cpps(files: Path, prompts: list[str]) -> None:
    with closing(scorer_of(files, prompts)) as scorer:
        assert len(scorer._beginning) > 20  # computed once, and not with every pass
        found = scorer.score({None: prompts, "a": prompts, "b": prompts[:5]})
    with closing(open_gguf(CONFIG, files / "base.gguf")) as engine:
        for name in ("a", "b"):
            engine.add_adapter(name, files / f"{name}.gguf")
        for adapter, scores in found.items():
            engine.use(adapter)
            np.testing.assert_allclose(scores, engine.score(prompts[: len(scores)]), atol=2e-3)
            np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert np.abs(found["a"] - found[None]).max() > 0.01
    assert np.abs(found["a"][:5] - found["b"]).max() > 0.01


def test_an_answer_depends_on_no_other_adapters_rows(files: Path, prompts: list[str]) -> None:
    """A replay that is taken up again asks in other company: the bits are the same."""
    with closing(scorer_of(files, prompts)) as scorer:
        scorer._passes.rows = 3
        together = scorer.score({"a": prompts, "b": prompts})
        assert np.array_equal(together["b"], scorer.score({"b": prompts})["b"])
        assert np.array_equal(together["a"][3:], scorer.score({None: prompts[:2], "a": prompts[3:]})["a"])


@pytest.mark.slow
def test_a_replay_by_pytorch_has_llama_cpps_decisions(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real engines through the stage; killed while it writes, it gives the same journal, latencies aside."""
    monkeypatch.setattr(replay_module, "CONTROL", 6)
    monkeypatch.setattr(torch_control, "NEAR_TIES", 2)
    monkeypatch.setattr("candletune.stages.replay_rows.BATCH", 16)
    config = config_of(tmp_path, "replay.stride=6", "replay.limit=24", "replay.reasons=2", "replay.engine=torch")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        run_stage(DATASET, config, run, SilentReporter())
    record_stage(run, ExportSummary(kind="adapter"))
    run.gguf.mkdir()
    shutil.copy(files / "a.gguf", run.adapter_gguf)
    shutil.copy(files / "base.gguf", run.base_gguf)
    config = config.model_copy(update={"engine": CONFIG.engine})
    served = config.model_copy(update={"replay": config.replay.model_copy(update={"engine": "llama.cpp"})})
    assert replay(served, run, SilentReporter()).control is None
    expected = read_frame(run.journal)
    summary = replay(config, run, SilentReporter())
    found = read_frame(run.journal)
    assert summary.control is not None
    assert summary.control.decided == "torch"
    assert 0 < summary.control.largest_gap < 2e-3
    assert found["shadow_action"].equals(expected["shadow_action"])
    assert (found["shadow_p_buy"] - expected["shadow_p_buy"]).abs().max() < 2e-3  # type: ignore[operator]
    assert found["shadow_reasoning"].drop_nulls().equals(expected["shadow_reasoning"].drop_nulls())
    run.journal.unlink()
    written = Journal.append_many
    monkeypatch.setattr(Journal, "append_many", killed_behind(written, 2))
    with pytest.raises(KeyboardInterrupt):
        replay(config, run, SilentReporter())
    assert len(read_frame(run.journal)) == 32
    assert torch_replay.scratch(run).is_dir()
    monkeypatch.setattr(Journal, "append_many", written)
    monkeypatch.setattr("candletune.engines.packed.PackedScorer", None)  # everything is on disk
    replay(config, run, SilentReporter())
    volatile = ["active_latency_ms", "shadow_latency_ms"]
    assert read_frame(run.journal).drop(volatile).equals(found.drop(volatile))


def killed_behind(append: Callable[[Journal, list[Row]], None], parts: int) -> Callable[[Journal, list[Row]], None]:
    """The journal's writing, ended behind so many parts."""
    written: list[int] = []

    def append_many(journal: Journal, rows: list[Row]) -> None:
        if len(written) == parts:
            raise KeyboardInterrupt
        written.append(len(rows))
        append(journal, rows)

    return append_many


def test_a_lora_is_read_back_as_it_was_written(files: Path, random_base: Path) -> None:
    peft = read_adapter(files / "b", read_shape(random_base))
    found = read_lora(files / "b.gguf", read_header(files / "base.gguf"))
    assert set(found) == {pair.module for pair in peft.pairs}
    for pair in peft.pairs:
        assert np.array_equal(found[pair.module].a.numpy(), pair.a)
        assert np.array_equal(found[pair.module].b.numpy(), pair.b)
        assert found[pair.module].scale == pytest.approx(peft.scale)


def test_what_it_cannot_score_is_said(files: Path, tmp_path: Path) -> None:
    assert refusal(CONFIG, files / "base.gguf") is None
    small = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"vram_gib": 0.001})})
    assert "does not fit into 0.0 GiB" in (refusal(small, files / "base.gguf") or "")
    broken = tmp_path / "broken.gguf"
    shutil.copyfile(files / "b.gguf", broken)
    content = broken.read_bytes()
    broken.write_bytes(content.replace(b"blk.0.attn_q.weight.lora_b", b"blk.0.attn_q.weight.lora_c"))
    with pytest.raises(InputError, match="lacks its other half"):
        read_lora(broken, read_header(files / "base.gguf"))
    broken.write_bytes(content.replace(b"blk.0.attn_q.weight.lora_", b"blk.7.attn_q.weight.lora_"))
    with pytest.raises(InputError, match=r"blk\.7\.attn_q\.weight\.lora_a adapts no linear layer"):
        read_lora(broken, read_header(files / "base.gguf"))
