"""The fast engine gives the loss and the gradients of plain Transformers + PEFT."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig
from candletune.errors import UsageError
from candletune.training.engine import EngineSetup
from candletune.training.engines import open_engine
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.packing import pack, training_rows
from candletune.training.fast.plan import Plan
from candletune.training.fast.preflight import unsupported
from training_models import VOCABULARY, examples, gradients, plain_loss, tiny_model

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PLANS = {
    "recompute": Plan(99, 0, False, False, False, 4096),
    "keep, chunked, resident": Plan(99, 3, False, False, True, 16),
    "micro-batches, offloaded, host embedding": Plan(2, 1, True, True, False, 16, 0.4),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("targets", [ALL[:1] + ALL[2:3], ALL[:4], ALL], ids=["qv", "qkvo", "all"])
@pytest.mark.parametrize(("count", "shared"), [(5, 9), (5, 0), (1, 4)])
def test_loss_and_gradients_agree(name: str, targets: tuple[str, ...], count: int, shared: int) -> None:
    model, rows = tiny_model(targets), examples(count, shared)
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    engine = FastEngine(model, PLANS[name], say=pytest.fail)
    total, weight = engine.loss(rows)
    torch.autograd.backward(total)
    found = gradients(model)
    assert weight == sum(sum(row.weights) for row in rows)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.keys() == wanted.keys()
    for key, grad in wanted.items():
        assert (found[key] - grad).norm() <= 1e-5 * grad.norm(), key


def test_four_bit_weights_agree() -> None:
    """Expanded NF4 weights with double quantization are the matrices bitsandbytes multiplies with."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    model, rows = tiny_model(), examples(4, 6)
    for block in model.get_base_model().model.layers:
        for owner, name in [(block.self_attn, n) for n in ALL[:4]] + [(block.mlp, n) for n in ALL[4:]]:
            module = getattr(owner, name)
            linear = getattr(module, "base_layer", module)
            kind: Any = Linear4bit
            packed = kind(linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32)
            weight: Any = Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
            packed.weight = weight.to("cpu")
            if module is linear:
                setattr(owner, name, packed)
            else:
                module.base_layer = packed
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    engine = FastEngine(model, PLANS["recompute"], say=pytest.fail)
    assert engine.shape.expand
    total, _ = engine.loss(rows)
    torch.autograd.backward(total)
    found = gradients(model)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, grad in wanted.items():
        assert (found[key] - grad).norm() <= 1e-5 * grad.norm(), key


def test_soft_decisions_agree() -> None:
    """A soft target asks one token for three ids; its gradient is the reference's too."""
    model = tiny_model()
    rows = [replace(row, soft=((20, 0.5), (21, 0.2), (22, 0.3))) for row in examples(4, 6)]
    rows[0] = replace(rows[0], soft=())
    expected = plain_loss(model, rows)
    torch.autograd.backward(expected)
    wanted = gradients(model)
    total, _ = FastEngine(model, PLANS["recompute"], say=pytest.fail).loss(rows)
    torch.autograd.backward(total)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, grad in gradients(model).items():
        assert (grad - wanted[key]).norm() <= 1e-5 * wanted[key].norm(), key


def test_evaluation_is_the_loss_without_dropout() -> None:
    model, rows = tiny_model(dropout=0.5), examples(5, 6)
    engine = FastEngine(model, PLANS["micro-batches, offloaded, host embedding"], say=pytest.fail)
    total, weight = engine.evaluate(rows)
    assert total == pytest.approx(plain_loss(model.eval(), rows).item(), rel=1e-5)
    assert weight == sum(sum(row.weights) for row in rows)


def test_gradients_scale_with_the_loss() -> None:
    model, rows = tiny_model(), examples(3, 5)
    engine = FastEngine(model, PLANS["recompute"], say=pytest.fail)
    torch.autograd.backward(engine.loss(rows)[0])
    whole = gradients(model)
    torch.autograd.backward(engine.loss(rows)[0] / 8)
    for key, grad in gradients(model).items():
        assert torch.allclose(grad * 8, whole[key], rtol=1e-5)


def test_decision_probabilities_agree_and_ignore_dropout() -> None:
    model = tiny_model(dropout=0.5).eval()
    prompts = [row.ids[: row.prompt_length] for row in examples(5, 7)]
    tokens = DecisionTokens((11, 12), (20, 21, 22))
    wanted = decision_probabilities(model, prompts, tokens, pad=0)
    engine = FastEngine(model, PLANS["micro-batches, offloaded, host embedding"], say=pytest.fail)
    model.train()
    assert torch.allclose(engine.decision_probabilities(prompts, tokens), wanted, atol=1e-6)


def test_dropout_is_kept_repeatable_and_unbiased() -> None:
    """Dropout changes the loss, a seed repeats it whatever is recomputed, and the drop rate is the set one."""
    model, rows = tiny_model(dropout=0.3), examples(5, 6)
    found = []
    for plan in (PLANS["recompute"], Plan(99, 3, False, False, False, 4096)):
        torch.manual_seed(3)
        total, _ = FastEngine(model, plan, say=pytest.fail).loss(rows)
        torch.autograd.backward(total)
        found.append((total.item(), gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for key, grad in found[0][1].items():
        assert torch.allclose(grad, found[1][1][key], rtol=1e-4, atol=1e-6)
    assert abs(found[0][0] - plain_loss(model.eval(), rows).item()) > 1e-3
    ops = FastEngine(model, PLANS["recompute"], say=pytest.fail).ops
    seed = torch.tensor(12345, dtype=torch.int32)
    ones = torch.ones(400, 500)
    dropped = ops.dropout(ones, 0.3, seed, 0)
    assert dropped.eq(0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert dropped.eq(0).float().mean(dim=0).std().item() == pytest.approx((0.21 / 400) ** 0.5, rel=0.2)
    assert torch.equal(dropped[100:], ops.dropout(ones[100:], 0.3, seed, 100))
    other = ops.dropout(ones, 0.3, seed + 1, 0)
    both = (dropped.eq(0) & other.eq(0)).float().mean().item()
    assert both == pytest.approx(0.09, abs=0.005)


def test_dropout_gradient_is_the_derivative() -> None:
    """Along the gradient's direction, the loss under a fixed mask changes as the gradient says."""
    model, rows = tiny_model(dropout=0.3).double(), examples(3, 4)
    engine = FastEngine(model, PLANS["recompute"], say=pytest.fail)
    torch.manual_seed(1)
    torch.autograd.backward(engine.loss(rows)[0])
    grads = gradients(model)
    parameters = {name: p for name, p in model.named_parameters() if name in grads}
    length = sum(g.double().pow(2).sum() for g in grads.values()) ** 0.5
    losses = []
    for side in (1e-4, -2e-4):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter += side * grads[name] / length
        torch.manual_seed(1)
        losses.append(engine.loss(rows)[0].item())
    assert (losses[0] - losses[1]) / 2e-4 == pytest.approx(float(length), rel=1e-2)


def test_packing_on_literal_ids() -> None:
    packed = pack([(1, 7, 8, 9), (1, 7, 5)], [2, 1], torch.device("cpu"))
    assert packed.prefix == 2
    assert packed.ids.tolist() == [1, 7, 8, 9, 5]
    assert packed.positions.tolist() == [0, 1, 2, 3, 2]
    assert packed.target_index.tolist() == [2, 3, 4]
    assert (packed.segments.queries, packed.segments.keys) == ((2, 2, 1), (2, 4, 3))
    assert packed.segments.key_index is not None
    assert packed.segments.key_index.tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 4]
    assert (packed.last_segments.queries, packed.last_segments.keys) == ((2, 1), (4, 3))
    keys = torch.arange(5.0)[:, None, None]
    gathered = packed.segments.gather(keys)
    assert packed.segments.reduce(gathered).flatten().tolist() == [0.0, 3.0, 2.0, 3.0, 4.0]


def test_answers_stay_outside_the_prefix() -> None:
    """Equal rows share everything but the tokens whose outputs are asked for."""
    row = examples(1, 4)[0]
    packed = pack(*training_rows([row, row]), torch.device("cpu"))
    assert packed.prefix == row.prompt_length - 1
    assert packed.tokens == packed.prefix + 2 * (len(row.ids) - 1 - packed.prefix)


def test_other_models_are_refused_and_said() -> None:
    model, rows, said = tiny_model(), examples(2, 3), list[str]()

    def opened(backend: str) -> str:
        setup = EngineSetup(TrainConfig(backend=backend, effective_batch=2), rows, pad=0, say=said.append)
        return open_engine(model, setup).name

    assert unsupported(model) is None
    assert opened("auto") == "reference", "auto prefers the reference on a CPU"
    assert opened("fast") == "fast"
    model.get_base_model().config.sliding_window = 4
    with pytest.raises(UsageError, match="sliding window"):
        opened("fast")
    model.get_base_model().config.model_type = "gemma"
    with pytest.raises(UsageError, match="gemma"):
        opened("fast")
    assert VOCABULARY > 22 and not said
