"""A base read from its GGUF is the model that the file says, block for block, and trains as one."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gguf
from candletune.base.from_gguf import Staging, config_of, load_packed
from candletune.base.packed import PackedEmbedding, PackedLinear
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.gguf.header import read_header
from candletune.gguf.model import write_model
from candletune.gguf.quantize import quantize
from candletune.model_shape import read_shape
from gguf import GGMLQuantizationType
from random_models import COMPLETE
from random_models import random_base as random_architecture

pytestmark = pytest.mark.llamacpp
TYPES = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS".split()


@pytest.fixture(scope="module")
def plain(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random base as an F32 GGUF."""
    target = tmp_path_factory.mktemp("packed") / "base.gguf"
    manifest = {"version": 1, "base": "random", "base_sha256": "0" * 64}
    write_model(
        random_base,
        target,
        number_format="F32",
        name="random",
        manifest=manifest,
        reporter=SilentReporter(),
    )
    return target


@pytest.fixture(scope="module", params=TYPES)
def packed(request: pytest.FixtureRequest, plain: Path) -> Path:
    """The same, quantized by llama.cpp's own quantizer."""
    if request.param == "F32":
        return plain
    target = plain.with_name(f"base.{request.param}.gguf")
    quantize(plain, target, request.param)
    return target


def expanded(path: Path, folder: Path) -> Any:
    """Transformers' model with the file's numbers, expanded by the gguf package, in Hugging Face's row order."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shape = read_shape(folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    state = {}
    for name, value in model.state_dict().items():
        numbers = tensors[f"{names.get_name(name.removesuffix('.weight'))}.weight"].astype(np.float32)
        heads = shape.heads if ".q_proj" in name else shape.kv_heads if ".k_proj" in name else 0
        if heads:
            numbers = numbers.reshape(heads, -1, 2, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        state[name] = torch.from_numpy(np.ascontiguousarray(numbers)).reshape(value.shape)
    model.load_state_dict(state)
    model.train(False)
    return model


def test_answers_as_the_expanded_model(packed: Path, random_base: Path) -> None:
    ids = torch.randint(3, 900, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = load_packed(packed, "cpu", torch.float32)(input_ids=ids).logits
        theirs = expanded(packed, random_base)(input_ids=ids).logits
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", COMPLETE)
def test_every_architecture_answers_as_its_model(name: str, texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """The GGUF that we write, read again, is the model it was written from: biases, norms, scaled rotary embedding."""
    from transformers import AutoModelForCausalLM

    base = random_architecture(name, tmp_path / "base", texts[0])
    path = tmp_path / "base.gguf"
    write_model(base, path, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    ids = torch.randint(3, 480, (2, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = load_packed(path, "cpu", torch.float32)(input_ids=ids).logits
        theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(input_ids=ids).logits
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert (ours.softmax(-1) - theirs.softmax(-1)).abs().max() <= 1e-5


def test_gradients_are_those_over_the_expanded_weights(plain: Path, random_base: Path) -> None:
    from peft import LoraConfig, get_peft_model

    path = plain.with_name("base.gradients.gguf")
    quantize(plain, path, "Q4_K_M")
    ids = torch.randint(3, 900, (2, 16), generator=torch.Generator().manual_seed(2))
    grads = []
    for model in (load_packed(path, "cpu", torch.float32), expanded(path, random_base)):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        torch.manual_seed(5)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        adapted = get_peft_model(model, lora)
        adapted(input_ids=ids, labels=ids).loss.backward()
        found = {name: p.grad for name, p in adapted.named_parameters() if p.grad is not None}
        assert len(found) == 3 * 2 * 4
        grads.append(found)
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], rtol=1e-5, atol=1e-7), name


def test_bytes_travel_in_parts_and_arrive_whole() -> None:
    source = torch.randint(0, 256, (37, 210), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    staging = Staging(size=1000)
    for _ in range(3):  # the two buffers take turns across tensors
        assert torch.equal(staging.to_device(source, "cpu"), source)
    assert torch.equal(staging.to_device(source[:1], "cpu"), source[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_card_gets_the_very_bytes(plain: Path) -> None:
    path = plain.with_name("base.card.gguf")
    quantize(plain, path, "Q4_K_M")
    ours, theirs = load_packed(path, "cuda", torch.bfloat16), load_packed(path, "cpu", torch.bfloat16)
    layers = dict(theirs.named_buffers())
    for name, there in ours.named_buffers():
        if there.dtype == torch.uint8:
            assert torch.equal(there.cpu(), layers[name]), name


@pytest.mark.skipif(sys.platform != "linux", reason="addresses of mapped files, as Linux tells them")
def test_on_a_cpu_the_file_itself_is_read(plain: Path) -> None:
    """No copy of the packed weights in memory: they lie where the file is mapped, which the system may drop."""
    import psutil

    process = psutil.Process()
    model = load_packed(plain, "cpu", torch.float32)
    mapped = [part for part in process.memory_maps(grouped=False) if part.path == str(plain)]
    assert mapped, "the file is mapped as long as the model lives"
    start, _, end = mapped[0].addr.partition("-")
    place = model.get_input_embeddings().weight.data_ptr()
    assert int(start, 16) <= place < int(end, 16)


def test_weights_stay_packed(plain: Path) -> None:
    path = plain.with_name("base.small.gguf")
    quantize(plain, path, "Q4_0")
    model = load_packed(path, "cpu", torch.float32)
    layers = [m for m in model.modules() if isinstance(m, PackedLinear | PackedEmbedding)]
    held = sum(m.weight.numel() for m in layers)
    assert len(layers) == 4 * 7 + 2
    assert held < path.stat().st_size
    assert {m.kind for m in layers} >= {GGMLQuantizationType.Q4_0}


def test_another_architecture_is_refused(plain: Path) -> None:
    header = read_header(plain)
    header.fields["general.architecture"] = "gpt2"
    with pytest.raises(InputError, match=r"base\.gguf: architecture 'gpt2' cannot be trained; supported are llama"):
        config_of(header)


def test_a_base_without_its_sizes_is_refused(plain: Path) -> None:
    header = read_header(plain)
    del header.fields["llama.block_count"]
    with pytest.raises(InputError, match=r"lacks llama\.block_count"):
        config_of(header)
