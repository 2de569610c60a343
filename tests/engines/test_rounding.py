"""Over quantized weights enough tokens go through every layer together, and a build that rounds is told apart.

The float32 base is the reference: what llama.cpp's rounding moves is what these tests leave room for, and no more.
"""

import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_cpp
import numpy as np
import pytest

from candletune.base import load
from candletune.config import EngineConfig, TrainConfig, load_config
from candletune.console import SilentReporter
from candletune.engines import llama_cpp as engine_module
from candletune.engines import loading, placement, rounding
from candletune.engines.asking import FLOAT_ROWS
from candletune.engines.batches import RowBatch, decode
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.engines.placement import GIB
from candletune.gguf.ggml import device_names
from candletune.gguf.header import Header, read_header
from candletune.gguf.model import write_model
from candletune.preflight import machine
from header_8b import CELLS, header_of_8b

SETTINGS = EngineConfig(threads=1, max_tokens=8)


@pytest.fixture(scope="module")
def bases(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One base, quantized and not."""
    folder = tmp_path_factory.mktemp("bases")
    found = {kind: folder / f"{kind}.gguf" for kind in ("F32", "F16", "Q8_0")}
    for kind, path in found.items():
        write_model(random_base, path, number_format=kind, name="x", manifest={}, reporter=SilentReporter())
    return found


def wanted_of(batch: Any) -> list[int]:
    """Which tokens of a batch are asked for their logits."""
    return [place for place in range(batch.n_tokens) if batch.logits[place]]


def test_a_pass_asks_for_its_last_tokens_and_no_other_prompts() -> None:
    rows = RowBatch(64, 4, outputs=6)
    batch, last = rows.fill([([1, 2, 3, 4, 5, 6, 7], 0, 1), ([8], 0, 2), ([9, 9, 9], 0, 3)], 8, 0)
    assert last == [6, 8, 18]
    assert wanted_of(batch) == [5, 6, 8, 17, 18], "two of each, one of the prompt that has no more"
    batch, last = rows.fill([([1, 2, 3], 0, 1)], 3, 0)
    assert (wanted_of(batch), last) == ([0, 1, 2], [2])
    batch, last = RowBatch(64, 4, outputs=1).fill([([1, 2, 3], 0, 1), ([4, 5, 6], 0, 2)], 3, 0)
    assert (wanted_of(batch), last) == ([2, 5], [2, 5])


@pytest.mark.llamacpp
def test_all_but_float32_weights_need_it(bases: dict[str, Path], texts: tuple[list[str], list[str]]) -> None:
    """And what is asked beside the last token changes nothing of what the last one says."""
    prompts, said = texts[0][:3], {}
    for kind, outputs in (("F32", 1), ("F16", FLOAT_ROWS), ("Q8_0", FLOAT_ROWS)):
        with closing(LlamaCppEngine(bases[kind], SETTINGS)) as engine:
            assert engine._asking.outputs == outputs
            said[kind] = engine.score(prompts)
    assert np.abs(said["F32"] - said["F16"]).max() < 0.002
    assert np.abs(said["F32"] - said["Q8_0"]).max() < 0.02
    assert len({tuple(row) for row in said["Q8_0"].round(4)}) == 3, "each prompt its own answer"


@pytest.mark.llamacpp
def test_a_part_of_more_than_a_pass_is_cut_evenly(bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(context: Any, batch: Any, stop: Any, clear: Any) -> None:
        read.append(batch.n_tokens)
        decode(context, batch, stop, clear)

    monkeypatch.setattr(engine_module, "decode", counted)
    with closing(LlamaCppEngine(bases["Q8_0"], SETTINGS)) as engine:
        ids = [5 + number % 50 for number in range(placement.PASS_TOKENS + 10)]
        engine._read([ids])
        assert read == [261, 261], "not 512 and 10, which would be computed as ten rows"
        cut = np.array([llama_cpp.llama_get_logits_ith(engine._context, -1)[token] for token in range(20)])
        engine._clear()
        monkeypatch.setattr(engine_module, "PASS_TOKENS", 10_000)
        engine._read([ids])
        whole = np.array([llama_cpp.llama_get_logits_ith(engine._context, -1)[token] for token in range(20)])
    assert np.abs(cut - whole).max() < 0.05 * np.abs(whole).max()


@pytest.mark.llamacpp
def test_a_beginning_or_a_rest_of_few_tokens_is_read_with_the_other(
    bases: dict[str, Path], texts: tuple[list[str], list[str]]
) -> None:
    prompt = texts[0][0]
    with closing(LlamaCppEngine(bases["Q8_0"], SETTINGS)) as engine:
        length = len(engine._asking.scored_ids(prompt))
    lengths = {}
    for characters in (3, len(prompt) // 2, len(prompt) - 3):
        with closing(LlamaCppEngine(bases["Q8_0"], SETTINGS, beginning=prompt[:characters])) as engine:
            lengths[characters] = [len(part) for part in engine._asking.parts(prompt)]
            assert len(engine._asking.answer(prompt, None).parts[-1]) >= FLOAT_ROWS
    few, half, most = lengths.values()
    assert few == most == [length]
    assert len(half) == 2 and min(half) >= FLOAT_ROWS and sum(half) == length


@pytest.mark.parametrize(
    ("names", "gpu", "told", "rounds"),
    [
        (("CPU",), False, b"CPU : AVX2 = 1 | ", True),
        (("BLAS", "CPU"), False, b"CPU : AVX2 = 1 | ", False),
        (("CUDA0", "CPU"), True, b"CUDA : ARCHS = 900 | USE_GRAPHS = 1 | ", True),
        (("CUDA0", "BLAS", "CPU"), True, b"CUDA : ARCHS = 900 | USE_GRAPHS = 1 | ", True),
        (("CUDA0", "CPU"), True, b"CUDA : ARCHS = 900 | FORCE_CUBLAS = 1 | ", False),
        (("Metal", "BLAS", "CPU"), True, b"Metal : EMBED_LIBRARY = 1 | ", False),
    ],
)
def test_which_builds_round(
    names: tuple[str, ...], gpu: bool, told: bytes, rounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "device_names", lambda: names)
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: gpu)
    monkeypatch.setattr(llama_cpp, "llama_print_system_info", lambda: told)
    assert rounding.rounds_activations.__wrapped__() is rounds


@pytest.mark.llamacpp
def test_this_build_names_what_it_computes_on() -> None:
    assert "CPU" in device_names()


@pytest.mark.parametrize("blas", [False, True])
def test_with_a_blas_no_weights_are_put_in_another_order(monkeypatch: pytest.MonkeyPatch, blas: bool) -> None:
    """Repacked Q4_K weights were computed by llama.cpp's own kernels, and rounded, though it had OpenBLAS."""
    asked: list[bool] = []

    def load(_path: bytes, parameters: Any) -> object:
        asked.append(parameters.use_extra_bufts)
        return object()

    monkeypatch.setattr(loading, "broken_build", lambda: None)
    monkeypatch.setattr(loading, "has_blas", lambda: blas)
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", load)
    loading.load_model(header_of_8b(), SimpleNamespace(told=0), SETTINGS)  # type: ignore[arg-type]
    assert asked == [not blas]


def test_a_matrix_that_is_expanded_takes_room_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    header = header_of_8b()
    monkeypatch.setattr(rounding, "expands_on_card", lambda: False)
    without = {gib: placement.layers_that_fit(header, CELLS, gib * GIB).told for gib in (3, 4)}
    monkeypatch.setattr(rounding, "expands_on_card", lambda: True)
    assert placement.layers_that_fit(header, CELLS, 4 * GIB).told == without[3] < without[4], "131,072 x 4,096 in 1 GiB"
    few = Header(header.path, header.fields, header.tensors[3:5], 0)
    assert rounding.expanded_bytes(few) == 4 * 4096 * 4096, "a small model's numbers are multiplied in float32"


@pytest.mark.parametrize("rounds", [False, True])
def test_doctor_says_when_decisions_are_rounded(rounds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "rounds_activations", lambda: rounds)
    quantized = load_config(None, ["base.model='somebody/a-model'", "base.serve_type=Q5_K_M"])
    found = [finding for finding in machine.llama_cpp(quantized) if "rounds activations" in finding.text]
    assert bool(found) is rounds
    if rounds:
        assert found[0].level == "warning"
        assert "over Q5_K_M weights" in found[0].text and "-DGGML_BLAS=on" in found[0].text
        monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
        assert "-DGGML_CUDA_FORCE_CUBLAS=on" in list(machine.llama_cpp(quantized))[-1].text
    missing = machine.llama_cpp(load_config(None, ["base.gguf=/nowhere/base.gguf"]))
    assert next(missing).subject == "llama.cpp", "what is said of llama.cpp is said before the file is read"
    floats = load_config(None, ["base.model='somebody/a-model'", "base.serve_type=F16"])
    assert not [finding for finding in machine.llama_cpp(floats) if "rounds activations" in finding.text]


@pytest.mark.parametrize(("given", "small", "large"), [(None, "F32", None), ("BF16", "BF16", "BF16")])
def test_a_small_model_is_multiplied_in_float32_unless_the_user_says_otherwise(
    given: str | None, small: str, large: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rounding.COMPUTE_TYPE, given or "")
    if given is None:
        monkeypatch.delenv(rounding.COMPUTE_TYPE)
    rounding._set_by_user.cache_clear()
    found = []
    for weights in (135e6, 8e9, 135e6):
        rounding.multiply_small_in_float32(weights)
        found.append(os.environ.get(rounding.COMPUTE_TYPE))
    rounding._set_by_user.cache_clear()
    assert found == [small, large, small]


@pytest.mark.parametrize(("given", "small", "large"), [(None, "0", None), ("1", "1", "1")])
def test_nobody_cuts_a_small_models_numbers_to_tf32(
    given: str | None, small: str, large: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_set_by_user", lambda: "F32")
    for weights, expected in ((8e9, large), (135e6, small)):
        monkeypatch.setenv(load.TF32, given or "")
        if given is None:
            monkeypatch.delenv(load.TF32)
        rounding.multiply_small_in_float32(weights)
        assert os.environ.get(load.TF32) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_that_is_said_before_pytorch_multiplies_on_a_card(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS reads it once: after a training in the same process llama.cpp's products still were TF32."""
    said: list[str | None] = []
    monkeypatch.delenv(load.TF32, raising=False)
    monkeypatch.setattr(load, "_load_gguf", lambda *_: said.append(os.environ.get(load.TF32)))
    load.load_base(Path(__file__), TrainConfig(quantization="gguf"), device)
    assert said == [{"cpu": None, "cuda": "0"}[device]]
    monkeypatch.delenv(load.TF32, raising=False)


def test_keys_values_and_attention_are_float32_where_nothing_else_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = header_of_8b()
    small = Header(large.path, large.fields, large.tensors[3:5], 0)
    for rounds, header, exact in ((True, small, False), (False, large, False), (False, small, True)):
        monkeypatch.setattr(rounding, "rounds_activations", lambda rounds=rounds: rounds)
        asked = loading.context_parameters(header)
        kinds = {asked.type_k, asked.type_v}
        assert kinds == ({llama_cpp.GGML_TYPE_F32} if exact else {llama_cpp.GGML_TYPE_F16})
        assert (asked.flash_attn_type == llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED) is exact
        assert placement.cache_bytes(header, 10) == (2 if exact else 1) * 2 * 2 * 10 * 1024


@pytest.mark.llamacpp
def test_exact_attention_decides_as_the_usual_one(
    bases: dict[str, Path], texts: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys in float32, several prompts a pass too."""
    said = {}
    for exact in (False, True):
        monkeypatch.setattr(loading, "attends_in_float32", lambda _, exact=exact: exact)
        for batch in (1, 3):
            with closing(LlamaCppEngine(bases["F32"], SETTINGS.model_copy(update={"batch": batch}))) as engine:
                said[exact, batch] = engine.score(texts[0][:3])
    assert np.abs(said[True, 1] - said[True, 3]).max() < 1e-5
    assert 0 < np.abs(said[True, 1] - said[False, 1]).max() < 2e-3


@pytest.mark.llamacpp
def test_the_engine_says_so_before_it_loads(bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(loading, "multiply_small_in_float32", asked.append)
    with closing(LlamaCppEngine(bases["Q8_0"], SETTINGS)):
        pass
    assert asked == [float(read_header(bases["F32"]).weights)]
    assert 1e6 < asked[0] < 5e6
