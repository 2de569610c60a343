"""As many layers on the card as fit, by the file's own sizes; fewer when llama.cpp finds that they do not."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.engines.placement import (
    ALL,
    GIB,
    RESERVE,
    CardLayers,
    CardRoom,
    card_layers,
    context_fits,
    layers_that_fit,
)
from candletune.errors import OutOfMemory
from candletune.gguf.ggml import free_on_cards
from candletune.gguf.header import Header
from candletune.gguf.model import write_model
from candletune.stages import stage
from candletune.stages.runner import run_stage
from export_case import Case
from header_8b import CELLS, header_of_8b

pytestmark = pytest.mark.llamacpp


def test_all_of_an_8b_model_fits_ten_gib_and_less_than_all_fits_four() -> None:
    header = header_of_8b()
    assert layers_that_fit(header, CELLS, 9.5 * GIB) == CardLayers(ALL, 37)
    some = layers_that_fit(header, CELLS, 4 * GIB)
    assert 15 < some.told < 36
    assert some.text == f"{some.told} of 37 layers on the card"
    assert layers_that_fit(header, CELLS, 0.5 * GIB) == CardLayers(0, 37)


@pytest.mark.parametrize("gib", [1.5, 2.0, 3.0, 4.0, 5.0])
def test_what_is_told_never_overflows(gib: float) -> None:
    """Counted here by hand: blocks with their keys and values, and the output instead of one of them."""
    header = header_of_8b()
    told = layers_that_fit(header, CELLS, gib * GIB).told
    block = sum(e.nbytes for e in header.tensors if e.name.startswith("blk.0.")) + CELLS * 2 * 1024 * 2
    output = sum(e.nbytes for e in header.tensors if e.name.startswith("output"))
    if told:
        assert max(told * block, output + (told - 1) * block) + RESERVE < gib * GIB
    assert (told + 1) * block + output > (gib - 1.2) * GIB, "and not much is left unused"


def test_more_keys_and_values_leave_room_for_fewer_layers() -> None:
    header = header_of_8b()
    told = [layers_that_fit(header, cells, 4 * GIB).told for cells in (1000, 10_000, 100_000)]
    assert told == sorted(told, reverse=True)
    assert told[0] > told[-1]


def test_a_tied_output_counts_the_embedding() -> None:
    header = header_of_8b()
    tied = Header(header.path, header.fields, tuple(e for e in header.tensors if e.name != "output.weight"), 0)
    assert layers_that_fit(tied, CELLS, 4 * GIB).told >= layers_that_fit(header, CELLS, 4 * GIB).told
    assert layers_that_fit(tied, CELLS, 9.5 * GIB).told == ALL


@pytest.mark.slow
def test_the_certificate_says_how_many_layers_the_card_has(
    random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(random_base, tmp_path / "run", texts[0], "verify.reference=none")
    case.export()
    monkeypatch.setattr("candletune.engines.llama_cpp.card_layers", lambda *_: CardLayers(2, 5))
    said: list[str] = []
    reporter = SilentReporter()
    monkeypatch.setattr(reporter, "say", said.append)
    run_stage(stage("verify"), case.config, case.run, reporter)
    assert "llama.cpp: 2 of 5 layers on the card, the rest in main memory" in said


def test_the_setting_and_the_budget_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    header = header_of_8b()
    assert card_layers(header, 12, CELLS, None) == CardLayers(12, 37)
    assert card_layers(header, -1, CELLS, None).told == 0
    assert card_layers(header, -1, CELLS, 24 * GIB).told == ALL
    assert card_layers(header, -1, CELLS, 4 * GIB) == layers_that_fit(header, CELLS, 4 * GIB)
    free: list[int | None] = [24 * GIB]
    monkeypatch.setattr("candletune.engines.placement.free_on_cards", lambda: free[0])
    room, capped = CardRoom(None), CardRoom(8.0)
    assert (room.left, capped.left) == (24 * GIB, 8 * GIB)
    free[0] = 19 * GIB
    assert (room.left, capped.left) == (19 * GIB, 3 * GIB), "what the model took counts"
    free[0] = None
    assert CardRoom(8.0).left is None


def test_a_second_context_fits_or_not() -> None:
    """Sixteen prompts a pass want their own keys and values; on the layers that are on the card only."""
    header, everything = header_of_8b(), CardLayers(ALL, 37)
    batch = 17 * 512
    assert context_fits(header, everything, batch, 2048, 3 * GIB)
    assert not context_fits(header, everything, batch, 2048, 1.5 * GIB)
    assert context_fits(header, CardLayers(4, 37), batch, 2048, 1.5 * GIB)
    assert context_fits(header, CardLayers(0, 37), batch, 2048, 0.0)
    assert context_fits(header, everything, batch, 2048, None)


def test_the_machine_is_asked() -> None:
    """A llama.cpp for the CPU has no card; one for a card says how much of it is free."""
    free = free_on_cards()
    assert (free is None) == (not llama_cpp.llama_supports_gpu_offload()) or free is None
    assert free is None or free > 0


@pytest.fixture
def base(random_base: Path, tmp_path: Path) -> Path:
    target = tmp_path / "base.gguf"
    write_model(random_base, target, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    return target


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A card on which everything fits by the count, but no more than two layers fit llama.cpp."""
    asked: list[int] = []
    real = llama_cpp.llama_init_from_model

    def init(model: Any, parameters: Any) -> Any:
        return real(model, parameters) if asked[-1] <= 2 else None

    def load(path: bytes, parameters: Any) -> Any:
        asked.append(parameters.n_gpu_layers)
        parameters.n_gpu_layers = 0
        return real_load(path, parameters)

    real_load = llama_cpp.llama_model_load_from_file
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", load)
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", init)
    monkeypatch.setattr("candletune.engines.placement.free_on_cards", lambda: 24 * GIB)
    yield asked


def test_fewer_layers_are_tried_when_the_count_was_wrong(base: Path, told: list[int]) -> None:
    settings = load_config(None, ["engine.threads=1"]).engine
    with closing(LlamaCppEngine(base, settings)) as engine:
        assert told == [ALL, 4, 3, 2]
        assert engine.card.text == "2 of 5 layers on the card"


def test_a_number_that_is_set_is_not_lowered(base: Path, told: list[int]) -> None:
    settings = load_config(None, ["engine.threads=1", "engine.gpu_layers=4"]).engine
    with pytest.raises(OutOfMemory, match=r"4 of 5 layers on the card; lower engine\.context or engine\.gpu_layers"):
        LlamaCppEngine(base, settings)
    assert told == [4]
