"""PEFT adapters with random weights, made as PEFT makes them."""

from pathlib import Path
from typing import Any

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_adapter(base: Path, folder: Path, *, seed: int = 5, scale: float = 0.05, **settings: Any) -> Path:
    """Save a LoRA adapter whose A and B are both random, so that every matrix matters."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config: dict[str, Any] = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    } | settings
    adapted = get_peft_model(model, LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * scale)
    adapted.save_pretrained(str(folder), safe_serialization=True)
    return folder
