"""Load a base model for training or scoring: packed as in its GGUF, in 4-bit or whole, without float32 copies."""

import os
import sys
from pathlib import Path
from typing import Any, Literal

from candletune.base.memory import Placement
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


TF32 = "NVIDIA_TF32_OVERRIDE"
"""NVIDIA's variable; at 0 cuBLAS multiplies float32 numbers as they are, whoever asks it for TF32 (llama.cpp does)."""


def without_tf32() -> None:
    """Have this process multiply float32 numbers as they are, not cut to TF32's 10 bits.

    cuBLAS reads the variable when it is first used in a process, and never again. What the user set stays.
    """
    os.environ.setdefault(TF32, "0")


def compute_type(config: TrainConfig, device: str) -> Any:
    """The type that is computed in: bfloat16 on a card where that is configured, else float32."""
    import torch

    return torch.bfloat16 if device == "cuda" and config.bf16 else torch.float32


SMALL = 500e6
"""Weights up to which a model is asked in float32."""


def asked_exactly(config: TrainConfig, weights: float) -> TrainConfig:
    """Settings to ask a trained model by: a small one computes in float32, a large one as it was trained.

    In bfloat16 alone 3.5 % of SmolLM2's decisions were others than in float32 (docs/smollm2.md), which would hide what
    serving changes. A large model would take ten times as long.
    """
    return config.model_copy(update={"bf16": False}) if weights <= SMALL else config


Storage = Literal["gguf", "nf4", "fp4", "none"]


def storage_of(quantization: Literal["auto"] | Storage, base: Path) -> Storage:
    """How the frozen weights of a base are kept: `gguf`, `nf4`, `fp4` or `none`.

    Args:
        quantization: `train.quantization`.
        base: folder or GGUF.
    """
    if quantization == "auto":
        return "gguf" if base.is_file() else "nf4"
    return quantization


def load_base(path: Path, config: TrainConfig, device: str, placement: Placement | None = None) -> Any:
    """The frozen base, everything that is not packed in the compute type (bfloat16 on a GPU, float32 on a CPU).

    Args:
        path: Hugging Face folder, or a GGUF, whose blocks stay packed unless `quantization` is `none`.
        config: names quantization and compute type.
        device: `cuda` or `cpu`.
        placement: where the layers of an unquantized base go that the device does not hold; none: all on the device.

    Raises:
        InputError: the folder or file does not hold a loadable causal model.
    """
    if device == "cuda":
        without_tf32()  # a small base is asked by llama.cpp too, in this process, when it is too late
    storage = storage_of(config.quantization, path)
    if path.is_file():
        return _load_gguf(path, storage, device, compute_type(config, device))
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    dtype = compute_type(config, device)
    quantization = None
    if storage != "none":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=storage,
            bnb_4bit_use_double_quant=config.double_quant,
            bnb_4bit_compute_dtype=dtype,
        )
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            quantization_config=quantization,
            device_map={"": 0 if device == "cuda" else "cpu"} if placement is None else "auto",
            max_memory=None if placement is None else placement.max_memory,
            offload_folder=None if placement is None else placement.scratch,
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


def _load_gguf(path: Path, storage: str, device: str, dtype: Any) -> Any:
    from candletune.base.from_gguf import expand_packed, load_packed

    model = load_packed(path, device, dtype)
    if storage == "none":
        expand_packed(model, dtype)
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
