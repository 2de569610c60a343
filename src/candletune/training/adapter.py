"""Inject the adapter, without the float32 copies the usual k-bit preparation makes."""

from pathlib import Path
from typing import Any

from candletune.config import TrainConfig
from candletune.errors import InputError


def add_adapter(model: Any, config: TrainConfig, seed: int) -> Any:
    """Wrap the base with a fresh LoRA adapter whose weights are float32.

    Raises:
        InputError: a target module does not occur in the model.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in config.target_modules if name not in names]:
        raise InputError(f"train.target_modules: the model has no {', '.join(missing)}; choose from its linear layers")
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.dropout,
            target_modules=list(config.target_modules),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if config.init_adapter is not None:
        _take_weights(adapted, config.init_adapter)
    return adapted


def _take_weights(adapted: Any, folder: Path) -> None:
    """Put the weights of a trained adapter in the place of the fresh ones.

    Raises:
        InputError: the folder is no adapter, or one of other layers or another rank.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"train.init_adapter: {folder} is no adapter ({' '.join(str(error).split())[:100]})") from None
    fresh = {name: tuple(value.shape) for name, value in get_peft_model_state_dict(adapted).items()}
    if {name: tuple(value.shape) for name, value in weights.items()} != fresh:
        raise InputError(
            f"train.init_adapter: {folder} has other layers or another rank than train.target_modules and "
            "train.lora_rank; set them as it was trained, or leave it out"
        )
    set_peft_model_state_dict(adapted, {name: value.float() for name, value in weights.items()})


def load_with_adapter(path: Path, config: TrainConfig, device: str, seed: int) -> Any:
    """The base from a folder with a fresh adapter.

    Raises:
        InputError: it cannot be loaded, or lacks a target module.
    """
    from candletune.base.load import load_base

    return add_adapter(load_base(path, config, device), config, seed)


def trained_device(model: Any) -> Any:
    """The `torch.device` of the adapter; frozen weights may lie elsewhere."""
    return next(parameter for parameter in model.parameters() if parameter.requires_grad).device
