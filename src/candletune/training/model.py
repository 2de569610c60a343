"""Load the base in 4-bit and inject the adapter, without the float32 copies the usual k-bit preparation makes."""

import os
import sys
from pathlib import Path
from typing import Any

from candletune.config import TrainConfig
from candletune.errors import InputError


def pick_device(wanted: str) -> str:
    """`cuda` when there is one (or it is demanded), else `cpu`.

    Raises:
        InputError: a GPU is demanded and there is none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "train.device: cuda is set but torch sees no GPU; run `candletune doctor` or set train.device=cpu"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu"
    if sys.platform == "linux":  # batches differ in length; without this, freed memory falls to pieces too small to use
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    return "cuda"


def load_base(path: Path, config: TrainConfig, device: str) -> Any:
    """The frozen base: NF4 linear layers, everything else in the compute type (bfloat16 on a GPU, float32 on a CPU).

    Raises:
        InputError: the folder does not hold a loadable causal model.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    dtype = torch.bfloat16 if device == "cuda" and config.bf16 else torch.float32
    quantization = None
    if config.quantization != "none":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=config.quantization,
            bnb_4bit_use_double_quant=config.double_quant,
            bnb_4bit_compute_dtype=dtype,
        )
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            quantization_config=quantization,
            device_map={"": 0 if device == "cuda" else "cpu"},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be loaded as a causal model ({' '.join(str(error).split())[:120]})") from None
    model.config.use_cache = False
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    _keep_layout(model)
    return model


def _keep_layout(model: Any) -> None:
    """Keep 4-bit layers as they were loaded.

    On a CPU with AVX512-BF16 bitsandbytes repacks a layer when it first runs in evaluation mode, for a kernel that
    computes in bfloat16 and has no gradient: whatever is trained after a first evaluation would learn from what the
    residual stream alone passes back, with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


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
    return adapted
