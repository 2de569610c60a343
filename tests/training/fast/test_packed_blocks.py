"""Over a GGUF's blocks the fast engine gives the gradients of Transformers and PEFT over the expanded weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from candletune.base.chat import DecisionTokens
from candletune.base.from_gguf import expand_packed, load_packed
from candletune.base.packed import PackedLinear, expand_into
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig
from candletune.console import SilentReporter
from candletune.gguf.dequantize import dequantize
from candletune.gguf.header import read_header
from candletune.gguf.model import write_model
from candletune.gguf.quantize import quantize
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.packing import pack, training_rows
from candletune.training.fast.plan import HEAD_PARTS, Plan
from candletune.training.fast.preflight import plan_for, shape_of, unsupported
from gguf import GGMLQuantizationType
from random_models import ALL
from random_models import random_base as random_architecture
from training_models import examples, gradients, plain_loss

pytestmark = pytest.mark.llamacpp
PLANS = {
    "recompute": Plan(99, 0, False, False, False, 4096),
    "resident, chunked": Plan(99, 3, False, False, True, 16),
    "micro-batches, embedding elsewhere": Plan(2, 1, True, True, False, 16, 0.4),
}


@pytest.fixture(scope="module")
def plain(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("blocks") / "base.gguf"
    write_model(random_base, target, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    return target


def adapted(path: Path, *, expanded: bool) -> Any:
    """The base with LoRA on every linear layer; B is not zero, so that every gradient is seen."""
    model = load_packed(path, "cpu", torch.float32)
    if expanded:
        expand_packed(model, torch.float32)
    torch.manual_seed(2)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(ALL)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def assert_same(path: Path, plan: Plan) -> None:
    rows, tokens = examples(5, 90), DecisionTokens((11, 12), (20, 21, 22))
    reference = adapted(path, expanded=True)
    assert not any(isinstance(module, PackedLinear) for module in reference.modules())
    expected = plain_loss(reference, rows)
    torch.autograd.backward(expected)
    wanted = gradients(reference)
    model = adapted(path, expanded=False)
    assert unsupported(model) is None
    engine = FastEngine(model, plan, say=pytest.fail)
    total, _ = engine.loss(rows)
    torch.autograd.backward(total)
    grads = gradients(model)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert grads.keys() == wanted.keys()
    for key, grad in wanted.items():
        assert (grads[key] - grad).norm() <= 1e-5 * grad.norm(), key
    prompts = [row.ids[: row.prompt_length] for row in rows]
    model.eval()
    reference.eval()
    probabilities = engine.decision_probabilities(prompts, tokens)
    assert torch.allclose(probabilities, decision_probabilities(reference, prompts, tokens, pad=2), atol=1e-6)
    assert engine.evaluate(rows)[0] == pytest.approx(plain_loss(reference, rows).item(), rel=1e-5)
    engine.close()
    assert unsupported(model) is None, "the model is as it was"


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "Q6_K", "Q8_0"])
def test_gradients_are_those_over_the_expanded_weights(kind: str, plan: str, plain: Path) -> None:
    path = plain.with_name(f"base.{kind}.gguf")
    if not path.exists():
        quantize(plain, path, kind)
    assert_same(path, PLANS[plan])


@pytest.mark.parametrize(
    "kind", ["F16", "BF16", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "IQ4_NL", "IQ4_XS"]
)
def test_gradients_over_every_type(kind: str, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    quantize(plain, path, {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}.get(kind, kind))
    assert kind in {GGMLQuantizationType(entry.kind).name for entry in read_header(path).tensors}
    assert_same(path, PLANS["recompute"])


@pytest.mark.parametrize("name", ["llama, tied", "llama, biases", "qwen2", "qwen3, tied"])
def test_other_architectures(name: str, texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """One table for embedding and head, biases, and norms of the heads."""
    base, plain = random_architecture(name, tmp_path / "base", texts[0]), tmp_path / "plain.gguf"
    write_model(base, plain, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    path = tmp_path / "base.gguf"
    quantize(plain, path, "Q8_0")
    assert_same(path, PLANS["resident, chunked"])


def test_the_plan_knows_what_is_packed(plain: Path) -> None:
    path = plain.with_name("base.plan.gguf")
    quantize(plain, path, "Q8_0")
    model = adapted(path, expanded=False)
    sizes = shape_of(model)
    assert sizes.expand and sizes.item == 4
    assert sizes.packed_table == sizes.vocabulary * 256 * 34 / 32
    packed = plan_for(model, TrainConfig(vram_gib=1.0), examples(5, 90), batch=4)
    expanded = plan_for(adapted(path, expanded=True), TrainConfig(vram_gib=1.0), examples(5, 90), batch=4)
    assert packed.resident and not expanded.resident
    assert packed.peak > 0


def test_a_matrix_is_expanded_in_parts(monkeypatch: pytest.MonkeyPatch, plain: Path) -> None:
    path = plain.with_name("base.parts.gguf")
    quantize(plain, path, "Q4_K_M")
    layer = load_packed(path, "cpu", torch.float32).model.layers[0].mlp.down_proj
    target = torch.empty(layer.out_features, layer.in_features, dtype=torch.bfloat16)
    monkeypatch.setattr("candletune.base.packed.EXPANDED_AT_ONCE", 7 * 256)
    expand_into(target, layer.weight, layer.kind)
    assert torch.equal(target, dequantize(layer.weight, layer.kind).to(torch.bfloat16))


def test_kernels_expand_every_packed_matrix(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are kernels (a card), layers, embedding and head, and Transformers' own pass, go through them."""
    path = plain.with_name("base.kernels.gguf")
    quantize(plain, path, "Q4_0")
    shapes: set[tuple[int, int]] = set()

    def kernel(target: torch.Tensor, blocks: torch.Tensor, kind: Any) -> None:
        assert target.is_contiguous() and blocks.is_contiguous()
        shapes.add((target.shape[0], target.shape[1]))
        target.copy_(dequantize(blocks, kind))

    monkeypatch.setattr("candletune.base.packed.block_kernels", lambda device: (kernel, None))
    model = adapted(path, expanded=False)
    rows = examples(5, 90)
    inner = model.get_base_model()
    vocabulary, hidden = inner.lm_head.weight.shape[0], inner.config.hidden_size
    layers = {
        (module.out_features, module.in_features)
        for module in inner.model.layers.modules()
        if isinstance(module, PackedLinear)
    }
    engine = FastEngine(model, PLANS["recompute"], say=pytest.fail)
    total, _ = engine.loss(rows)
    assert shapes >= layers | {(-(-vocabulary // HEAD_PARTS), hidden)}, "the head is expanded in parts"
    tokens = len(pack(*training_rows(rows), torch.device("cpu")).ids)
    assert (tokens, hidden) in shapes, "rows of the embedding"
    shapes.clear()
    engine.decision_probabilities(
        [row.ids[: row.prompt_length] for row in rows], DecisionTokens((11, 12), (20, 21, 22))
    )
    assert (3, hidden) in shapes, "rows of the head"
    engine.close()
    shapes.clear()
    assert plain_loss(model, rows).item() == pytest.approx(total.item(), rel=1e-5)
    assert shapes >= layers | {(vocabulary, hidden)}


def test_a_card_without_kernels_is_said(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain.with_name("base.said.gguf")
    quantize(plain, path, "Q4_0")
    monkeypatch.setattr("candletune.training.fast.weights.block_kernels", lambda device: (None, "no compiler"))
    said: list[str] = []
    FastEngine(adapted(path, expanded=False), PLANS["recompute"], say=said.append).close()
    assert len(said) == 1 and "no compiler" in said[0]
    FastEngine(adapted(path, expanded=True), PLANS["recompute"], say=pytest.fail).close()
