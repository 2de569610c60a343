"""Unsloth as the engine: the loop over its model is exact, what it cannot do is refused. Its own code needs a GPU."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig, load_config
from candletune.engines.transformers import TransformersEngine
from candletune.errors import InputError, UsageError
from candletune.training.engine import EngineSetup
from candletune.training.engines import unsloth
from candletune.training.engines.unsloth import UnslothEngine, load_unsloth
from candletune.training.examples import TokenizedExample
from candletune.training.loss import answer_loss
from training_models import examples, gradients, plain_loss, tiny_model


@pytest.mark.parametrize("micro", [2, 5])
def test_gradients_do_not_depend_on_the_micro_batch(micro: int) -> None:
    model, rows = tiny_model(), examples(5, 9)
    torch.autograd.backward(plain_loss(model, rows))
    wanted = gradients(model)
    engine = UnslothEngine(model, EngineSetup(TrainConfig(backend="unsloth", batch_size=micro), rows, 0, pytest.fail))
    total, weight = engine.loss(rows)
    assert all(p.grad is None for p in model.parameters())
    torch.autograd.backward(total)
    grads = gradients(model)
    assert weight == sum(sum(row.weights) for row in rows)
    for key, grad in wanted.items():
        assert (grads[key] - grad).norm() <= 1e-5 * grad.norm(), key
    assert engine.evaluate(rows)[0] == pytest.approx(total.item(), rel=1e-5)


def test_probabilities_agree_with_the_reference() -> None:
    model, rows = tiny_model(), examples(5, 9)
    tokens = DecisionTokens((1, 2), (3, 4, 5))
    prompts = [row.ids[: row.prompt_length] for row in rows]
    setup = EngineSetup(TrainConfig(backend="unsloth", batch_size=2), rows, 0, pytest.fail)
    engine = UnslothEngine(model.eval(), setup)
    wanted = decision_probabilities(model, prompts, tokens, pad=0)
    assert torch.allclose(engine.decision_probabilities(prompts, tokens), wanted, atol=1e-6)


def test_out_of_memory_halves_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, said = tiny_model(), examples(5, 9), list[str]()

    def small(model: Any, batch: Sequence[TokenizedExample], pad: int, *, share: bool) -> Any:
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        return answer_loss(model, batch, pad, share=share)

    monkeypatch.setattr(unsloth, "answer_loss", small)
    engine = UnslothEngine(model, EngineSetup(TrainConfig(backend="unsloth"), rows, 0, said.append))
    total, _ = engine.loss(rows)
    assert total.item() == pytest.approx(plain_loss(model, rows).item(), rel=1e-5)
    assert engine.plan.describe() == "Unsloth, micro-batch 1"
    assert said[-1] == "out of GPU memory: repeating the step with micro-batch 1"

    def none(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(unsloth, "answer_loss", none)
    with pytest.raises(InputError, match="one example does not fit"):
        engine.loss(rows)


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = TrainConfig(backend="unsloth")
    with pytest.raises(UsageError, match="needs a CUDA GPU"):
        load_unsloth(tmp_path, config, "cpu", 0)
    with pytest.raises(UsageError, match="no fp4"):
        load_unsloth(tmp_path, config.model_copy(update={"quantization": "fp4"}), "cuda", 0)
    if importlib.util.find_spec("unsloth") is None:
        with pytest.raises(UsageError, match="pip install unsloth"):
            load_unsloth(tmp_path, config, "cuda", 0)
    monkeypatch.setitem(sys.modules, "unsloth", ModuleType("unsloth"))
    with pytest.raises(UsageError, match="changed Transformers"):
        TransformersEngine(load_config(None), tmp_path)
