"""Training that goes on from an adapter: its weights, what is refused, and what a checkpoint belongs to."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict

from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.training.adapter import load_with_adapter
from candletune.training.checkpoints import recipe_fingerprint


@pytest.fixture(scope="module")
def trained(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose weights nobody would draw."""
    model = load_with_adapter(random_base, TrainConfig(quantization="none"), "cpu", 1)
    with torch.no_grad():
        for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.fill_(0.5 + number)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def test_training_begins_with_its_weights(random_base: Path, trained: Path) -> None:
    config = TrainConfig(quantization="none", init_adapter=trained)
    weights = get_peft_model_state_dict(load_with_adapter(random_base, config, "cpu", 2))
    values = [float(value.flatten()[0]) for value in weights.values()]
    assert len(values) > 2 and min(values) == 0.5 and len(set(values)) == len(values)
    assert all(value.dtype == torch.float32 for value in weights.values())


@pytest.mark.parametrize(
    "other", [{"lora_rank": 4}, {"target_modules": ("q_proj", "k_proj", "v_proj")}, {"target_modules": ("q_proj",)}]
)
def test_other_layers_or_another_rank_are_refused(random_base: Path, trained: Path, other: dict[str, object]) -> None:
    config = TrainConfig.model_validate({"quantization": "none", "init_adapter": trained, **other})
    with pytest.raises(InputError, match="other layers or another rank"):
        load_with_adapter(random_base, config, "cpu", 1)


def test_what_is_no_adapter_is_refused(random_base: Path, tmp_path: Path) -> None:
    config = TrainConfig(quantization="none", init_adapter=tmp_path)
    with pytest.raises(InputError, match=r"train\.init_adapter: .* is no adapter"):
        load_with_adapter(random_base, config, "cpu", 1)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match=r"train\.init_adapter: .* is no adapter"):
        load_with_adapter(random_base, config, "cpu", 1)


def test_a_checkpoint_belongs_to_what_training_went_on_from(trained: Path, tmp_path: Path) -> None:
    """To its content: the same adapter in another folder is the same start."""

    def digest(folder: Path | None) -> str:
        return recipe_fingerprint(TrainConfig(init_adapter=folder), "d", "b", 1, {})

    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    assert digest(moved) == digest(trained) != digest(None)
    (moved / "adapter_config.json").write_text("{}")
    assert digest(moved) != digest(trained)
