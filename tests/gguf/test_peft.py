"""What a LoRA GGUF cannot carry is refused before anything is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters import make_adapter
from candletune.errors import InputError
from candletune.gguf.model import check_architecture
from candletune.gguf.peft import AdapterRefused, read_adapter
from candletune.model_shape import read_shape


@pytest.fixture(scope="module")
def adapter(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(random_base, tmp_path_factory.mktemp("adapter"))


def changed(adapter: Path, target: Path, **values: Any) -> Path:
    """A copy with other entries in adapter_config.json."""
    target.mkdir()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | values))
    (target / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    return target


def test_scale_and_alpha(adapter: Path, random_base: Path, tmp_path: Path) -> None:
    shape = read_shape(random_base)
    plain = read_adapter(adapter, shape)
    assert (plain.rank, plain.scale, plain.gguf_alpha) == (8, 2.0, 16.0)
    stabilised = read_adapter(changed(adapter, tmp_path / "rs", use_rslora=True), shape)
    assert stabilised.scale == pytest.approx(16 / 8**0.5)
    assert stabilised.gguf_alpha == pytest.approx(16 * 8**0.5)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases"),
        ({"lora_bias": True}, "LoRA biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trained token embeddings"),
        ({"rank_pattern": {"q_proj": 4}}, "ranks by layer"),
        ({"peft_type": "IA3"}, "only LORA"),
    ],
)
def test_unsupported_is_refused(
    values: dict[str, Any], reason: str, adapter: Path, random_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(AdapterRefused, match=reason):
        read_adapter(changed(adapter, tmp_path / "x", **values), read_shape(random_base))


@pytest.mark.parametrize(("values", "reason"), [({"r": 0}, "r is 0"), ({"lora_alpha": "x"}, "lora_alpha is 'x'")])
def test_bad_numbers_are_refused(
    values: dict[str, Any], reason: str, adapter: Path, random_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        read_adapter(changed(adapter, tmp_path / "x", **values), read_shape(random_base))


def test_adapter_of_another_base(adapter: Path, random_base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((random_base / "config.json").read_text()) | {"hidden_size": 512}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="trained on another base model"):
        read_adapter(adapter, read_shape(other))


def test_empty_adapter(random_base: Path, tmp_path: Path) -> None:
    folder = make_adapter(random_base, tmp_path / "zero", scale=0.0)
    with pytest.raises(InputError, match="changes nothing"):
        read_adapter(folder, read_shape(random_base))


def test_truncated_safetensors(adapter: Path, random_base: Path, tmp_path: Path) -> None:
    copy = changed(adapter, tmp_path / "cut")
    path = copy / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_adapter(copy, read_shape(random_base))


def test_missing_weights(adapter: Path, random_base: Path, tmp_path: Path) -> None:
    copy = changed(adapter, tmp_path / "none")
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="no such file"):
        read_adapter(copy, read_shape(random_base))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "GPT2LMHeadModel .* is not supported.*set base.model to a model of one of MistralForCausalLM",
        ),
        ({"model_type": "gpt2"}, "model type gpt2"),
        ({"architectures": None, "model_type": None}, "architecture unknown"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ({"model_type": "qwen2"}, "MistralForCausalLM .model type qwen2. is not supported"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "factor of its rope scaling is None"),
    ],
)
def test_bases_that_cannot_be_written(values: dict[str, Any], reason: str, random_base: Path, tmp_path: Path) -> None:
    config = json.loads((random_base / "config.json").read_text()) | values
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=reason):
        read_shape(tmp_path)


def test_a_tokenizer_that_cannot_be_written_is_known_before_training(random_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    assert check_architecture(base).layers == 4
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["type"] = "WordPiece"
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="a WordPiece tokenizer cannot be exported"):
        check_architecture(base)
    assert check_architecture(base, writes_base=False).layers == 4, "a base GGUF of its own brings its tokenizer"
