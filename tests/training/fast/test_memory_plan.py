"""The memory plan picks what fits, and out-of-memory halves the micro-batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.files import write_json
from candletune.model_shape import read_shape
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.plan import (
    GIB,
    BatchSize,
    Footprint,
    Limits,
    ModelSizes,
    Plan,
    Workload,
    choose_plan,
    chunks_of,
    estimate,
    preview,
    work_of,
)
from candletune.training.fast.preflight import plan_for
from training_models import examples, gradients, plain_loss, tiny_model

MINISTRAL = ModelSizes(4096, 12288, 32, 8, 128, 36, 131072, 2, True)
WEIGHTS = 36 * MINISTRAL.layer_weights * 0.516 + 2 * 131072 * 4096 * 2
WORKLOAD = Workload([(305, 25)] * 64, prefix=100, batch=32)


def plan(budget: float, **settings: Any) -> Plan:
    return choose_plan(MINISTRAL, WORKLOAD, Footprint(WEIGHTS, 3_800_000), Limits(budget * GIB, **settings))


def test_more_memory_never_means_a_slower_plan() -> None:
    budgets = (6.5, 7, 8, 10, 12, 16, 24, 48, 80, 139)
    plans = [plan(budget) for budget in budgets]
    for budget, chosen in zip(budgets, plans, strict=True):
        assert chosen.peak <= budget * GIB
    work = [work_of(p, MINISTRAL, WORKLOAD) for p in plans]
    assert work == sorted(work, reverse=True)
    assert plans[-1].resident and plans[-1].full_layers == 36
    assert not plans[-1].offload_inputs and not plans[-1].host_embedding
    assert plans[2].micro_batch == 32 and plans[2].host_embedding
    assert plan(8, offload_share=0.4).offload_share == 0.4
    assert plan(139, offload_share=0.4).offload_share == 0
    assert not plan(8, host=False).host_embedding


@pytest.mark.parametrize(
    ("way", "tokens", "measured"),
    [
        (Plan(32, 0, False, False, False, 4096), 7600, 8.65),
        (Plan(32, 0, True, True, False, 4096, 0.4), 7600, 5.85),
        (Plan(32, 2, True, True, False, 4096, 0.49), 7600, 6.40),
        (Plan(16, 36, False, True, False, 4096), 3900, 16.14),
        (Plan(32, 36, False, False, True, 4096), 7600, 40.23),
    ],
)
def test_estimate_is_near_what_was_measured(way: Plan, tokens: int, measured: float) -> None:
    """Peaks of an H200 (docs/speed.md): the estimate is never below and at most 8 % above."""
    rows = way.micro_batch
    size = BatchSize(tokens, keys=tokens + 104 * rows, targets=43 * rows)
    peak = estimate(MINISTRAL, way, Footprint(5.352 * GIB, 3_833_856), size)
    assert measured <= peak / GIB <= measured * 1.08


def test_preview_is_the_plan_before_the_weights_are_there(tmp_path: Path) -> None:
    """The doctor's estimate for Ministral-8B is the one training made on an H200 with 5.35 GiB of weights loaded."""
    config = {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "num_hidden_layers": 36,
        "vocab_size": 131072,
    }
    write_json(tmp_path / "config.json", config)
    base = read_shape(tmp_path)
    assert preview(base, TrainConfig(), 139 * GIB).resident
    small = preview(base, TrainConfig(), 8 * GIB)
    assert small.micro_batch == 32 and small.host_embedding and small.peak <= 8 * GIB
    with pytest.raises(InputError, match=r"needs about 5\.\d GiB at micro-batch 1, 4\.0 are free"):
        preview(base, TrainConfig(), 4 * GIB)
    assert preview(base, TrainConfig(batch_size=4), 10 * GIB).micro_batch == 4


def test_packed_blocks_fit_where_nf4_does() -> None:
    """A Q4_K_M file of 4.57 GiB, embedding and head in it, against NF4 with both in bfloat16."""
    blocks = replace(MINISTRAL, packed_table=0.28 * GIB)
    for budget in (6, 7, 8, 10, 139):
        packed = choose_plan(blocks, WORKLOAD, Footprint(4.57 * GIB, 3_800_000), Limits(budget * GIB))
        assert packed.peak <= budget * GIB
        assert work_of(packed, blocks, WORKLOAD) <= 1.01 * work_of(plan(budget), MINISTRAL, WORKLOAD)
    assert packed.resident and packed.head_parts == 1


def test_an_embedding_that_is_the_head_stays_where_it_is() -> None:
    """The engine leaves a tied table on the device, so no estimate may count on its leaving."""
    tied = replace(MINISTRAL, tied=True)
    footprint = Footprint(WEIGHTS - 131072 * 4096 * 2, 3_800_000)
    for budget in (6, 8, 12):
        chosen = choose_plan(tied, WORKLOAD, footprint, Limits(budget * GIB))
        assert not chosen.host_embedding


def test_chunks_cover_the_rows_once() -> None:
    assert chunks_of(10, 4, 0.0) == (((0, 3), (3, 6), (6, 10)), 0)
    assert chunks_of(10, 4, 0.5) == (((0, 2), (2, 5), (5, 7), (7, 10)), 2)
    assert chunks_of(10, 40, 1.0) == (((0, 10),), 1)


def test_a_set_micro_batch_is_kept() -> None:
    assert plan(139, micro_batch=4).micro_batch == 4
    assert plan(139, micro_batch=64).micro_batch == 32


def test_too_little_memory_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"needs about .* GiB at micro-batch 1, 4\.0 are free; .*smaller base"):
        plan(4)


def test_estimate_grows_with_tokens_and_kept_layers() -> None:
    base, footprint = Plan(32, 0, False, False, False, 4096), Footprint(WEIGHTS, 3_800_000)

    def peak(way: Plan, tokens: int) -> float:
        return estimate(MINISTRAL, way, footprint, BatchSize(tokens, keys=10_000, targets=800))

    small = peak(base, 3000)
    assert peak(base, 6000) > small
    assert peak(Plan(32, 4, False, False, False, 4096), 3000) > small
    assert peak(Plan(32, 0, True, True, False, 4096), 3000) < small
    assert WEIGHTS < small


@pytest.mark.parametrize("fits", [3, 1])
def test_out_of_memory_repeats_the_step_with_half(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of more than `fits` rows fail, also in the middle of a step; the gradients are still exact."""
    model, rows, said = tiny_model(), examples(6, 5), list[str]()
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    engine = FastEngine(model, Plan(5, 3, False, False, True, 4096), say=said.append)
    real, seen = engine._pass, []

    def small(packed: Any, terms: Any, seeds: Any) -> torch.Tensor:
        count = packed.segments.cu_keys.shape[0] - 1 - (packed.prefix > 0)
        seen.append(count)
        if count > fits:
            real(packed, terms, seeds)
            raise torch.OutOfMemoryError("injected")
        return real(packed, terms, seeds)

    monkeypatch.setattr(engine, "_pass", small)
    total, _ = engine.loss(rows)
    torch.autograd.backward(total)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, grad in gradients(model).items():
        assert (grad - wanted[key]).norm() <= 1e-5 * wanted[key].norm(), key
    assert seen[:2] == [5, 3]
    assert said[0] == "out of GPU memory: repeating the step with micro-batch 3"
    assert engine.plan.micro_batch == fits and engine.plan.full_layers == 0 and not engine.plan.resident


def test_out_of_memory_with_one_row_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FastEngine(tiny_model(), Plan(4, 0, False, False, False, 4096), say=lambda _: None)

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(engine, "_pass", full)
    with pytest.raises(InputError, match=r"one example does not fit; .*max_sequence_length"):
        engine.loss(examples(4, 3))


def test_plan_of_a_small_model_on_a_cpu() -> None:
    rows = examples(6, 4)
    planned = plan_for(tiny_model(), TrainConfig(vram_gib=1.0), rows, batch=4)
    assert planned.micro_batch == 4 and planned.full_layers == 3 and not planned.offload_inputs
    assert "estimated peak" in planned.describe()
