"""Passes recorded as CUDA graphs: padding changes nothing, and a replay gives what the usual way gives."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from candletune.training.examples import TokenizedExample
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.graphs import LENGTH_STEP, TARGET_STEP, TOKEN_STEP, pad
from candletune.training.fast.packing import pack, training_rows
from candletune.training.fast.plan import GIB, Footprint, Limits, ModelSizes, Plan, Workload, choose_plan
from candletune.training.fast.weights import GradientSums
from training_models import examples, tiny_model

WHOLE = Plan(99, 99, False, False, True, 4096)


def soft(rows: list[TokenizedExample]) -> list[TokenizedExample]:
    return [replace(row, soft=((20, 0.5), (21, 0.2), (22, 0.3))) for row in rows]


@pytest.mark.parametrize("training", [False, True], ids=["no dropout", "dropout"])
@pytest.mark.parametrize(("count", "shared"), [(5, 9), (5, 0), (1, 4)])
def test_a_row_of_padding_changes_no_gradient(count: int, shared: int, training: bool) -> None:
    model = tiny_model(dropout=0.3).train(training)
    rows = soft(examples(count, shared))
    engine = FastEngine(model, WHOLE, say=pytest.fail)
    wanted, grads = engine.gradients(rows, seed=5)
    padded = pad(rows)
    with torch.no_grad():
        engine._sums = sums = GradientSums(engine.parameters)
        total = engine._pass(padded.packed, padded.terms, engine._seeds(5))
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    for found, grad in zip(sums.of(engine.parameters), grads, strict=True):
        assert (found - grad).norm() <= 1e-5 * grad.norm()


def test_padded_sizes_come_again() -> None:
    rows = examples(40, 9)
    batches = [pad(rows[start : start + 8]) for start in range(0, 40, 8)]
    for batch, start in zip(batches, range(0, 40, 8), strict=True):
        part = rows[start : start + 8]
        packed = pack(*training_rows(part), torch.device("cpu"))
        assert batch.packed.prefix == packed.prefix
        assert batch.packed.ids[: packed.tokens].tolist() == packed.ids.tolist()
        assert batch.packed.tokens % TOKEN_STEP == 0
        assert len(batch.packed.target_index) % TARGET_STEP == 0
        assert len(batch.terms[0]) % TARGET_STEP == 0
        assert all(length % LENGTH_STEP == 0 for length in batch.size[-4:])
    for one, other in pairwise(batches):
        if one.size == other.size:
            assert [t.shape for t in one.tensors()] == [t.shape for t in other.tensors()]
    assert len({batch.size for batch in batches}) < len(batches)


def test_a_copy_holds_the_same() -> None:
    batch = pad(soft(examples(3, 4)))
    copied = batch.to(torch.device("cpu"))
    assert copied.size == batch.size
    assert all(torch.equal(a, b) for a, b in zip(batch.tensors(), copied.tensors(), strict=True))


def test_only_short_passes_that_fit_twice_are_recorded() -> None:
    small = ModelSizes(576, 1536, 9, 3, 64, 30, 49152, 2, False)
    large = ModelSizes(4096, 12288, 32, 8, 128, 36, 131072, 2, True)
    work = Workload([(305, 25)] * 64, prefix=100, batch=32)

    def graphs(sizes: ModelSizes, budget: float, **limits: Any) -> bool:
        weights = sizes.layers * sizes.layer_weights * 0.6 + 2 * sizes.vocabulary * sizes.hidden * 2
        return choose_plan(sizes, work, Footprint(weights, 500_000), Limits(budget * GIB, **limits)).graphs

    assert graphs(small, 40, graphs=True)
    assert not graphs(small, 40)
    assert not graphs(small, 3, graphs=True)
    assert not graphs(large, 139, graphs=True)
    assert graphs(large, 139, graphs=True, micro_batch=16)  # as each of two processes has it


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_replay_gives_the_usual_gradients(dropout: float) -> None:
    model = tiny_model(dropout=dropout).to("cuda", torch.bfloat16).train()
    usual = FastEngine(model, WHOLE, say=pytest.fail)
    recorded = FastEngine(model, replace(WHOLE, graphs=True), say=pytest.fail)
    for seed in range(4):
        rows = soft(examples(6, 9))
        wanted, grads = usual.gradients(rows, seed=seed)
        total, found = recorded.gradients(rows, seed=seed)
        assert total.item() == pytest.approx(wanted.item(), rel=1e-2)
        for one, other in zip(found, grads, strict=True):
            assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999
    assert recorded._graphs is not None and recorded._graphs._graphs, "nothing was recorded"
