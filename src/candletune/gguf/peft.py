"""Read a PEFT adapter folder and refuse, with the reason, what a LoRA GGUF cannot carry."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candletune.errors import InputError
from candletune.files import read_json
from candletune.gguf.names import expected_sizes
from candletune.model_shape import ModelShape

_PAIR = re.compile(
    r"^base_model\.model\.(model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+))\.lora_([AB])(?:\.default)?\.weight$"
)
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules_to_save",
    "trainable_token_indices": "trained token embeddings",
    "lora_bias": "LoRA biases",
    "rank_pattern": "ranks by layer",
    "alpha_pattern": "alphas by layer",
    "layer_replication": "layer replication",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow",
    "alora_invocation_tokens": "activated LoRA",
    "target_parameters": "LoRA on parameters",
}


class AdapterRefused(InputError):
    """The adapter cannot become a LoRA GGUF; a merged model may still be possible."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One adapted layer: its Hugging Face name, A (rank, in) and B (out, rank), float32."""

    module: str
    a: NDArray[np.float32]
    b: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checked adapter.

    Attributes:
        rank: its rank.
        scale: what multiplies B A: alpha / rank, or alpha / sqrt(rank) when rank-stabilised (Kalajdzievski 2023).
        pairs: its layers by name.
    """

    rank: int
    scale: float
    pairs: tuple[Pair, ...]

    @property
    def gguf_alpha(self) -> float:
        """The alpha to write: llama.cpp scales by alpha / rank always."""
        return self.scale * self.rank


def read_adapter(folder: Path, shape: ModelShape) -> Adapter:
    """The adapter in a PEFT folder, checked against the base's sizes.

    Raises:
        AdapterRefused: it holds what a LoRA GGUF cannot carry (DoRA, biases, trained embeddings, unknown modules...).
        InputError: a file is missing or broken, or the sizes are another base's.
    """
    config: dict[str, Any] = read_json(folder / "adapter_config.json")  # PEFT's JSON
    path = folder / "adapter_config.json"
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"{path}: peft_type is {config.get('peft_type')!r}; only LORA can be exported")
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise AdapterRefused(f"{path}: {key} is set; a LoRA GGUF cannot carry {what}")
    if config.get("bias", "none") != "none":
        raise AdapterRefused(f"{path}: bias is {config['bias']!r}; a LoRA GGUF cannot carry trained biases")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not 0 < rank <= 4096:
        raise InputError(f"{path}: r is {rank!r}, expected a positive integer")
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise InputError(f"{path}: lora_alpha is {alpha!r}, expected a positive number")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(rank, float(scale), tuple(_pairs(folder / "adapter_model.safetensors", rank, shape)))


def _pairs(path: Path, rank: int, shape: ModelShape) -> Iterator[Pair]:
    halves = _halves(path)
    if not halves:
        raise InputError(f"{path}: no LoRA weights in it; train again")
    all_zero = True
    for module, matrices in sorted(halves.items(), key=lambda item: _order(item[0])):
        if set(matrices) != {"A", "B"}:
            raise InputError(f"{path}: {module} has no lora_{'B' if 'A' in matrices else 'A'}; the file is incomplete")
        a, b = matrices["A"], matrices["B"]
        try:
            rows, columns = expected_sizes(module.rpartition(".")[2], shape)
        except KeyError:
            raise AdapterRefused(f"{path}: {module} is no linear layer llama.cpp adapts") from None
        if a.shape != (rank, columns) or b.shape != (rows, rank):
            raise InputError(
                f"{path}: {module} has A {a.shape} and B {b.shape}, the base wants ({rank}, {columns}) and "
                f"({rows}, {rank}); it was trained on another base model"
            )
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise InputError(f"{path}: {module} holds NaN or infinity; train again with a lower train.learning_rate")
        all_zero = all_zero and not b.any()
        yield Pair(module, a, b)
    if all_zero:
        raise InputError(f"{path}: every B matrix is zero, so the adapter changes nothing; train it first")


def _halves(path: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    from safetensors import SafetensorError, safe_open

    halves: dict[str, dict[str, NDArray[np.float32]]] = {}
    try:
        with safe_open(path, framework="pt") as tensors:  # torch, since numpy has no bfloat16
            for name in tensors.keys():
                match = _PAIR.match(name)
                if match is None:
                    raise AdapterRefused(
                        f"{path}: {name} is neither lora_A nor lora_B of a layer; it cannot be carried"
                    )
                halves.setdefault(match[1], {})[match[4]] = tensors.get_tensor(name).float().numpy()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `candletune train` first") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); train again") from None
    return halves


def _order(module: str) -> tuple[int, str]:
    return int(module.split(".")[2]), module


def merge_with_peft(base: Path, folder: Path, target: Path) -> None:
    """Merge any adapter PEFT knows into the base, in float32 and in memory, and save the checkpoint to `target`.

    Raises:
        InputError: base or adapter cannot be loaded.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{folder}: PEFT cannot merge it ({' '.join(str(error).split())[:120]}); train again"
        ) from None
    merged.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
