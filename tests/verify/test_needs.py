"""What a stage needs, estimated before anything is loaded, against what is really there."""

import json
import math
import shutil
from pathlib import Path

import pytest

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.gguf.model import weights_of, write_model
from candletune.model_shape import read_shape
from candletune.stages.needs import NEEDS, base_needs, export_needs, replay_needs, train_needs, verify_needs


def settings(*more: str) -> Config:
    return load_config(None, ["train.device=cpu", "base.model=nobody/never-downloaded", *more])


def test_counted_weights_are_the_files(random_base: Path, tmp_path: Path) -> None:
    shape = read_shape(random_base)
    assert shape.parameters == sum(math.prod(weight.sizes) for weight in weights_of(random_base))
    target = tmp_path / "base.gguf"
    write_model(random_base, target, number_format="F16", name="x", manifest={}, reporter=SilentReporter())
    estimate = base_needs(settings(f"base.model={random_base}", "base.serve_type=F16")).disk_gib
    assert target.stat().st_size / 2**30 <= estimate <= 1.2 * target.stat().st_size / 2**30 + 0.11


def test_an_8b_base_is_assumed_until_it_is_here() -> None:
    plain = settings()
    assert "8 billion weights (assumed: not here yet)" in train_needs(plain).why
    assert 14.9 + 4.5 < base_needs(plain).disk_gib < 14.9 + 6, "the download and the file"
    assert train_needs(plain).disk_gib < 1
    assert export_needs(plain).disk_gib < 0.2
    assert 5 < replay_needs(plain).ram_gib < 8, "a Q4_K_M base in llama.cpp"
    assert 15 < replay_needs(settings("base.serve_type=F16")).ram_gib < 19, "an F16 one"
    assert verify_needs(plain).ram_gib < 14, "the model as trained over the blocks, in float32 on a CPU"
    four_bit = verify_needs(settings("train.quantization=nf4"))
    assert verify_needs(plain).ram_gib < four_bit.ram_gib < 16, "embedding and head are not packed in NF4"
    streamed = verify_needs(settings("train.quantization=none"))
    assert streamed.ram_gib < 12
    assert "the rest of it streamed" in streamed.why and "streamed" not in four_bit.why


def test_a_quantized_base_needs_less_and_a_merged_candidate_more(tmp_path: Path) -> None:
    small = tmp_path / "base.gguf"
    small.write_bytes(bytes(2**20))
    plans = "train.quantization=nf4"
    adapter = replay_needs(settings(f"base.gguf={small}", plans))
    merged = replay_needs(settings(f"base.gguf={small}", plans, "export.kind=merged"))
    assert adapter.ram_gib < 4
    assert 4 < merged.ram_gib - adapter.ram_gib < 6.5
    assert export_needs(settings(f"base.gguf={small}", plans)).disk_gib < 0.2
    assert base_needs(settings(f"base.gguf={small}", plans)).disk_gib == 0
    assert train_needs(settings(f"base.gguf={small}", plans)).disk_gib > 14.9, "NF4 trains on the download"


@pytest.mark.parametrize(("free", "share"), [(24, 1.0), (5, 0.6), (1, 0.0)])
def test_llama_cpp_needs_no_more_of_the_card_than_there_is(
    free: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers that do not fit wait in main memory."""
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr("candletune.stages.needs.free_on_cards", lambda: free * 2**30)
    found = replay_needs(settings())
    assert found.vram_gib <= free
    assert found.vram_gib == pytest.approx(share * 5.8, abs=0.8)
    assert found.ram_gib >= 1.5 + (1 - share) * 4.5
    capped = replay_needs(settings("train.vram_gib=3"))
    assert capped.vram_gib <= 3


def test_several_prompts_a_pass_need_room_and_servers_none_here() -> None:
    single, several = replay_needs(settings()), replay_needs(settings("engine.batch=16"))
    # 17 sequences of 512 tokens at 8B, and the buffers of a pass of 2048.
    assert 1.2 < several.ram_gib - single.ram_gib < 2.2
    assert verify_needs(settings("engine.batch=16")).ram_gib >= several.ram_gib - 1
    there = replay_needs(settings("engine.url=http://127.0.0.1:9", "engine.batch=16"))
    assert (there.vram_gib, there.ram_gib) == (0, 1.5)


def test_every_stage_that_loads_a_model_has_an_estimate_without_a_card(random_base: Path) -> None:
    for name, needs in NEEDS.items():
        found = needs(settings(f"base.model={random_base}"))
        assert found.stage == name and found.vram_gib == 0 and 0 < found.ram_gib < 8, found


def test_an_architecture_that_cannot_be_exported_is_said(random_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    config = json.loads((base / "config.json").read_text()) | {"architectures": ["Qwen2ForCausalLM"]}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="Qwen2ForCausalLM"):
        train_needs(settings(f"base.model={base}"))
