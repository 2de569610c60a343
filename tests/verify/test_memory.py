"""A reference that does not fit is streamed and answers the same; memory that is used up is one line."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters import make_adapter
from candletune.artifacts import StageSummary
from candletune.base import memory
from candletune.base.memory import Placement, is_out_of_memory, memory_explained, place
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.engines import certify
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.engines.transformers import TransformersEngine
from candletune.errors import InputError, OutOfMemory
from candletune.gguf.adapter import write_adapter
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.model_shape import read_shape
from candletune.runs import RunFolder
from candletune.stages.memory import stage_memory
from candletune.stages.needs import MINISTRAL_8B
from candletune.stages.runner import Stage, run_stage

GIB = 2**30


def settings(base: Path, *more: str) -> Config:
    fixed = ["train.device=cpu", "engine.threads=1", "engine.max_tokens=4"]
    return load_config(None, [f"base.model={base}", *fixed, *more])


@pytest.fixture(scope="module")
def adapter(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    targets = ["q_proj", "k_proj", "v_proj", "down_proj"]
    return make_adapter(random_base, tmp_path_factory.mktemp("adapter"), scale=0.1, target_modules=targets)


def answers(config: Config, base: Path, adapter: Path, prompts: list[str]) -> tuple[Any, set[Any]]:
    """Probabilities bare, adapted, bare and adapted again, and the places the layers were at."""
    engine = TransformersEngine(config, base)
    places = set(getattr(engine._base, "hf_device_map", {"": "cpu"}).values())
    engine.add_adapter("a", adapter)
    scored = []
    for name in (None, "a", None, "a"):
        engine.use(name)
        scored.append(engine.score(prompts))
    engine.close()
    return np.stack(scored), places


@pytest.mark.parametrize(("gib", "places"), [(0.005, {"cpu", "disk"}), (0.0005, {"disk"})])
def test_a_base_beyond_the_budget_answers_the_same(
    gib: float,
    places: set[str],
    random_base: Path,
    adapter: Path,
    texts: tuple[list[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Half of it, and all of it, stays in the safetensors file and is brought layer by layer."""
    whole, everywhere = answers(settings(random_base), random_base, adapter, texts[0][:6])
    assert everywhere == {"cpu"}
    monkeypatch.setattr(memory, "scoring_bytes", lambda _shape, _item: 0.0)
    monkeypatch.chdir(tmp_path)
    streamed, found = answers(settings(random_base, f"train.vram_gib={gib}"), random_base, adapter, texts[0][:6])
    assert found == places
    assert np.array_equal(whole, streamed)
    assert not np.allclose(whole[0], whole[1]), "the adapter was at work"
    assert not list(tmp_path.iterdir()), "no copy of the weights in the working folder"


def test_an_adapter_that_is_no_plain_lora_is_not_streamed(
    random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dora = make_adapter(random_base, tmp_path / "dora", use_dora=True)
    monkeypatch.setattr(memory, "scoring_bytes", lambda _shape, _item: 0.0)
    engine = TransformersEngine(settings(random_base, "train.vram_gib=0.005"), random_base)
    with pytest.raises(InputError, match=r"DoRA; such an adapter .* raise train.vram_gib"):
        engine.add_adapter("a", dora)
    engine.close()


def test_an_8b_reference_is_placed_on_a_card_of_10_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_budget", lambda: 12.0 * GIB)
    placed = place(MINISTRAL_8B, 2, "cuda", 9.7 * GIB, tmp_path)
    assert isinstance(placed, Placement)
    assert 5 * GIB < placed.max_memory[0] < 8 * GIB, "room is left for the activations of a pass"
    assert placed.max_memory["cpu"] == 12 * GIB
    assert place(MINISTRAL_8B, 2, "cuda", 70 * GIB, tmp_path) is None


def _python() -> None:
    np.zeros(2**55, np.int8)


def _torch() -> None:
    torch.empty(2**50)


def _card() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 10 GiB")


def _cublas() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize("use_up", [_python, _torch, _card, _cublas])
@pytest.mark.parametrize(("stage", "key"), [("train", "train.batch_size"), ("verify", "engine.gpu_layers")])
def test_used_up_memory_is_one_line_with_a_remedy(
    use_up: Callable[[], None], stage: str, key: str, tmp_path: Path
) -> None:
    def work(*_: Any) -> StageSummary:
        use_up()
        return StageSummary()

    doing = Stage(stage, "", (), lambda *_: {}, (), work)
    with pytest.raises(OutOfMemory, match=f"^{stage}: out of memory .*{key}") as caught:
        run_stage(doing, load_config(None), RunFolder(tmp_path), SilentReporter())
    assert isinstance(caught.value, InputError) and caught.value.exit_code == 3
    assert len(str(caught.value)) < 400


def test_a_stage_leaves_no_embedding_with_bitsandbytes() -> None:
    """The Trainer registers every embedding for 32-bit optimizer states, with a list that outlives all stages."""
    optim = pytest.importorskip("bitsandbytes.optim")
    with stage_memory("train"):
        module = torch.nn.Embedding(4, 4)
        optim.GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
        kept = weakref.ref(module)
        del module
        assert kept() is not None
    assert kept() is None


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), memory_explained("train", ""):
        raise RuntimeError("sizes differ")
    assert not is_out_of_memory(InputError("the candles are out of memory's reach"))


@pytest.fixture(scope="module")
def exported(random_base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """GGUFs of base, adapter and merged model."""
    folder = tmp_path_factory.mktemp("gguf")
    shape = read_shape(random_base)
    files = {name: folder / f"{name}.gguf" for name in ("base", "adapter", "merged")}
    lora = read_adapter(adapter, shape)
    for name, merged in (("base", None), ("merged", lora)):
        write_model(
            random_base,
            files[name],
            number_format="F32",
            name="x",
            manifest={},
            reporter=SilentReporter(),
            adapter=merged,
        )
    write_adapter(lora, shape, files["adapter"], number_format="F32", manifest={}, name="x")
    return files


@pytest.mark.llamacpp
def test_llama_cpp_without_room_for_its_context_names_the_settings(exported: dict[str, Path]) -> None:
    huge = load_config(None, ["engine.context=1000000000"]).engine
    with pytest.raises(OutOfMemory, match=r"no memory for a context of 1000000000 tokens .*lower engine.context"):
        LlamaCppEngine(exported["base"], huge)


@pytest.mark.llamacpp
@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_one_model_in_memory_at_a_time(
    kind: str,
    random_base: Path,
    adapter: Path,
    exported: dict[str, Path],
    texts: tuple[list[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bare base, merged model and reference follow each other; none waits for the other in memory."""
    loaded: list[str] = []
    most = 0

    def counted(opened: type, name: str) -> None:
        opening, closing = opened.__init__, opened.close  # type: ignore[misc,attr-defined]

        def start(self: Any, *given: Any, **more: Any) -> None:
            nonlocal most
            loaded.append(name)
            most = max(most, len(loaded))
            opening(self, *given, **more)

        def end(self: Any) -> None:
            loaded.remove(name)
            closing(self)

        monkeypatch.setattr(opened, "__init__", start)
        monkeypatch.setattr(opened, "close", end)

    counted(LlamaCppEngine, "llama.cpp")
    counted(TransformersEngine, "Transformers")
    config = settings(random_base, "train.quantization=none")
    prompts = texts[0][:3]
    asked = certify.ask_export(
        exported[kind], exported["base"], config, prompts, SilentReporter(), asked=[0, 2], merged=kind == "merged"
    )
    trained = certify.ask_trained(config, adapter, prompts, SilentReporter())
    assert (most, loaded) == (1, [])
    assert trained.storage == "none"
    assert np.abs(asked.probabilities - trained.probabilities).max() < 1e-3
    assert np.abs(asked.judged - asked.bare).max() > 1e-3


@pytest.mark.parametrize(
    ("setting", "cap", "gib"), [(None, 1.0, 7.75), (6.0, 1.0, 6.0), (9.0, 0.5, 4.75)], ids=["free", "setting", "cap"]
)
def test_a_card_budget_is_the_smallest_of_setting_cap_and_what_is_free(
    setting: float | None, cap: float, gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _=None: (7 * GIB, 10 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _=None: GIB)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _=None: cap, raising=False)
    assert memory.device_budget(setting, "cuda") == pytest.approx(gib * GIB)


def test_memory_on_a_cpu_is_what_a_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.memory_budget()
    assert memory.device_budget(1e-3, "cpu") == pytest.approx(1e-3 * GIB)
    read = Path.read_text
    limits = {"memory.max": str(3 * GIB), "memory.current": str(GIB)}
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: limits.get(self.name) or read(self, *a, **k))
    assert memory.memory_budget() == pytest.approx(min(whole, 0.5 * GIB), rel=0.2)
