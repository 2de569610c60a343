"""The fast engine gives the reference's loss and gradients for every architecture that it says it can run."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig
from candletune.errors import UsageError
from candletune.training.engine import EngineSetup
from candletune.training.engines import open_engine
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.plan import Plan
from candletune.training.fast.preflight import shape_of, unsupported
from candletune.training.loss import answer_loss
from random_models import ALL, COMPLETE, OTHERS, linear_layers, random_model
from training_models import examples, gradients, plain_loss

PLANS = {
    "recompute": Plan(99, 0, False, False, False, 4096),
    "keep, chunked": Plan(99, 3, False, False, True, 16),
    "micro-batches, offloaded": Plan(2, 1, True, True, False, 16, 0.4),
}


def adapted(name: str, *, targets: tuple[str, ...] = ALL, **changes: Any) -> Any:
    """The random model with LoRA on its linear layers; B is not zero, so that every gradient is seen."""
    model = random_model(name, **changes)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets))
    torch.manual_seed(2)
    model = get_peft_model(model, lora)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", COMPLETE)
def test_gradients_are_the_references(name: str, plan: str) -> None:
    assert_same_gradients(adapted(name), PLANS[plan])


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_scaled_rotary_embeddings(kind: str) -> None:
    """Yarn multiplies the table too."""
    rope = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
    assert_same_gradients(adapted("qwen3", rope_parameters=rope), PLANS["keep, chunked"])


def assert_same_gradients(model: Any, plan: Plan) -> None:
    """Loss and gradients are those of Transformers and PEFT."""
    assert unsupported(model) is None
    rows = examples(5, 90)
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    engine = FastEngine(model, plan, say=pytest.fail)
    total, _ = engine.loss(rows)
    torch.autograd.backward(total)
    found = gradients(model)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.keys() == wanted.keys()
    assert len(found) == 3 * len(ALL) * 2
    for key, grad in wanted.items():
        assert (found[key] - grad).norm() <= 1e-5 * grad.norm(), key


@pytest.mark.parametrize("name", COMPLETE)
def test_decisions_are_the_references(name: str) -> None:
    model = adapted(name, targets=("q_proj", "v_proj")).eval()
    prompts = [row.ids[: row.prompt_length] for row in examples(4, 80)]
    tokens = DecisionTokens((11, 12), (20, 21, 22))
    found = FastEngine(model, PLANS["recompute"], say=pytest.fail).decision_probabilities(prompts, tokens)
    assert torch.allclose(found, decision_probabilities(model, prompts, tokens, pad=2), atol=1e-6)


def test_what_an_architecture_adds_is_computed() -> None:
    """Biases, head norms and scaled rotary embeddings each change the loss: leaving one out would be seen above."""
    rows = examples(3, 90)
    for name, remove in (
        ("qwen2", lambda model: [p.zero_() for n, p in model.named_parameters() if n.endswith(".bias")]),
        ("qwen3", lambda model: [p.fill_(1.0) for n, p in model.named_parameters() if "_norm.weight" in n]),
        ("llama 3.1", lambda model: model.get_base_model().model.rotary_emb.inv_freq.mul_(0.5)),
    ):
        model = adapted(name)
        before = plain_loss(model, rows).item()
        with torch.no_grad():
            remove(model)
        assert abs(plain_loss(model, rows).item() - before) > 1e-3 * before, name


def test_head_norms_are_in_the_memory_plan() -> None:
    assert shape_of(adapted("qwen3")).head_norms
    assert not shape_of(adapted("qwen2")).head_norms


@pytest.mark.parametrize("name", OTHERS)
def test_others_train_with_the_reference(name: str) -> None:
    """Said by name; decoder and head, with what rows share computed once, give the loss of the whole model."""
    model, rows = adapted(name, targets=linear_layers(name)), examples(4, 90)
    reason = unsupported(model)
    assert reason is not None and f"its type is {name}, not llama, mistral, qwen2 or qwen3" in reason
    setup = EngineSetup(TrainConfig(backend="fast", effective_batch=2), rows, pad=2, say=pytest.fail)
    with pytest.raises(UsageError, match=name):
        open_engine(model, setup)
    model.eval()  # some have dropout of their own
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    total, _ = answer_loss(model, rows, 2)
    torch.autograd.backward(total)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, grad in gradients(model).items():
        assert (grad - wanted[key]).norm() <= 1e-4 * wanted[key].norm(), key


def test_rotary_embeddings_that_change_with_the_length_are_refused() -> None:
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    reason = unsupported(adapted("llama", rope_parameters=dynamic))
    assert reason is not None and "rotary embedding (dynamic)" in reason
    part = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    model = adapted("llama")
    model.get_base_model().config.rope_parameters = part
    assert unsupported(model) is not None
    assert unsupported(adapted("llama 3.1")) is None
