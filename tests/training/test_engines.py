"""Every training engine, held to the same tests: an engine that is added is found here by itself.

An engine is compared with the documentation's way of writing the loss (Transformers + PEFT, one row at a time), over a
model that the test makes: Unsloth loads its own on a GPU only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import candletune
from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig, load_config
from candletune.errors import UsageError
from candletune.training import engines
from candletune.training.engine import EngineSetup, TrainingEngine
from candletune.training.engines import engine_kind, engine_names, open_engine
from training_models import examples, gradients, plain_loss, tiny_model

TOKENS = DecisionTokens((11, 12), (20, 21, 22))


def opened(name: str, *, dropout: float = 0.0, batch: int = 5) -> TrainingEngine:
    config = TrainConfig(backend=name, effective_batch=batch, batch_size=2, vram_gib=1.0)
    return open_engine(tiny_model(dropout=dropout), EngineSetup(config, examples(5, 9), pad=0, say=lambda _: None))


@pytest.mark.parametrize("name", engine_names())
def test_shared_loss_and_gradients_are_the_documentations(name: str) -> None:
    engine, model, rows = opened(name), tiny_model(), examples(5, 9)
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    calls = [rows[start : start + engine.call_size] for start in range(0, len(rows), engine.call_size)]
    total = weight = 0.0
    for call in calls:
        loss, part = engine.loss(call)
        torch.autograd.backward(loss)
        total += loss.item()
        weight += part
    assert weight == sum(sum(row.weights) for row in rows)
    assert total == pytest.approx(expected.item(), rel=1e-5)
    grads = gradients(engine.model)
    assert grads.keys() == wanted.keys()
    for key, grad in wanted.items():
        assert (grads[key] - grad).norm() <= 1e-5 * grad.norm(), key


@pytest.mark.parametrize("name", engine_names())
def test_shared_a_scaled_loss_scales_its_gradients(name: str) -> None:
    """The Trainer divides by the weight of the whole effective batch before it goes backward."""
    engine = opened(name)
    rows = examples(engine.call_size, 9)
    torch.autograd.backward(engine.loss(rows)[0])
    whole = gradients(engine.model)
    torch.autograd.backward(engine.loss(rows)[0] / 8)
    for key, grad in gradients(engine.model).items():
        assert torch.allclose(grad * 8, whole[key], rtol=1e-4, atol=1e-7), key


@pytest.mark.parametrize("name", engine_names())
def test_shared_evaluation_has_no_dropout_and_no_gradient(name: str) -> None:
    engine, rows = opened(name, dropout=0.5), examples(5, 9)
    total, weight = engine.evaluate(rows)
    assert total == pytest.approx(plain_loss(tiny_model().eval(), rows).item(), rel=1e-5)
    assert weight == pytest.approx(sum(sum(row.weights) for row in rows))
    model = engine.model
    assert model.training, "evaluation must leave training mode as it was"
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", engine_names())
def test_shared_probabilities_are_the_references(name: str) -> None:
    engine = opened(name, dropout=0.5)
    prompts = [row.ids[: row.prompt_length] for row in examples(5, 7)]
    wanted = decision_probabilities(tiny_model().eval(), prompts, TOKENS, pad=0)
    found = engine.decision_probabilities(prompts, TOKENS)
    assert found.shape == (5, 3) and found.dtype == torch.float64
    assert torch.allclose(found, wanted, atol=1e-6)
    assert engine.model.training
    assert engine.decision_probabilities([], TOKENS).shape == (0, 3)


@pytest.mark.parametrize("name", engine_names())
def test_shared_what_an_engine_says_of_itself(name: str) -> None:
    engine = opened(name, batch=4)
    assert engine.name == name
    assert 1 <= engine.plan.micro_batch <= 4 and 1 <= engine.call_size <= 4
    assert engine.plan.describe() == "" or "micro-batch" in engine.plan.describe()
    assert not engine.checkpointing, "on a CPU nothing is computed again"
    engine.close()
    model = engine.model
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_auto_says_why_it_does_not_take_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where the fast engine is preferred; one that is asked for by name is refused instead."""
    monkeypatch.setattr(engines, "trained_device", lambda _: torch.device("cuda"))
    model, rows, said = tiny_model(), examples(2, 3), list[str]()

    def chosen(backend: str) -> str:
        return open_engine(model, EngineSetup(TrainConfig(backend=backend), rows, 0, said.append)).name

    assert chosen("auto") == "fast" and not said
    model.get_base_model().config.hidden_act = "gelu"
    assert chosen("auto") == "reference"
    assert said == [
        "the fast engine cannot run this model (its activation is not silu, or attention has dropout); using the "
        "reference engine"
    ]
    with pytest.raises(UsageError, match=r"the fast engine cannot run this model .*; set it to reference"):
        chosen("fast")


def test_an_unknown_engine_is_refused_when_the_configuration_is_read() -> None:
    with pytest.raises(UsageError, match=r"train\.backend: .*auto, fast, reference, unsloth.*'fats'"):
        load_config(None, ["train.backend=fats"])
    with pytest.raises(UsageError, match="no engine 'fats'; choose auto, fast, reference, unsloth"):
        engine_kind("fats")


FAKE = '''
"""An engine of somebody else's: one row at a time, full logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from candletune.training.adapter import load_with_adapter
from candletune.training.engine import EngineKind, EngineSetup, FixedPlan


class RowEngine:
    name = "rows"
    checkpointing = False
    plan = FixedPlan(1, "row by row")

    def __init__(self, model: Any, setup: EngineSetup) -> None:
        self.model, self.call_size = model, setup.config.effective_batch

    def loss(self, examples: Sequence[Any]) -> tuple[Tensor, float]:
        total = torch.zeros(())
        for example in examples:
            ids = torch.tensor([example.ids])
            logits = self.model(input_ids=ids).logits[0].float()[example.prompt_length - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, ids[0, example.prompt_length :, None])[:, 0]
            total = total - (chosen * torch.tensor(example.weights)).sum()
        return total, float(sum(sum(example.weights) for example in examples))

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Any]) -> tuple[float, float]:
        self.model.eval()
        total, weight = self.loss(examples)
        self.model.train()
        return float(total), weight

    @torch.no_grad()
    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: Any) -> Tensor:
        self.model.eval()
        rows = [self.model(input_ids=torch.tensor([[*p, *tokens.prefix]])).logits[0, -1] for p in prompts]
        self.model.train()
        chosen = [row[list(tokens.ids)].double().softmax(-1) for row in rows]
        return torch.stack(chosen) if chosen else torch.zeros((0, 3), dtype=torch.float64)

    def close(self) -> None:
        pass


ENGINE = EngineKind(open=RowEngine, load=load_with_adapter)
'''


def test_an_engine_is_added_in_one_file(tmp_path: Path) -> None:
    """A copy of the package with one more file: its name is a setting, and the shared tests find and hold it."""
    package = tmp_path / "src" / "candletune"
    shutil.copytree(Path(candletune.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "training" / "engines" / "rows.py").write_text(FAKE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), str(Path(__file__).parents[1])])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "shared and rows"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    shared = sum(name.startswith("test_shared_") for name in globals())
    assert f"{shared} passed" in done.stdout, done.stdout[-500:]
