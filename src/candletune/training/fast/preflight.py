"""What the fast engine must know of a loaded model before it starts: whether it can run it, its sizes, the plan."""

from collections.abc import Sequence
from typing import Any

import torch

from candletune.architectures import architecture_of, complete_types
from candletune.base.packed import PackedLinear
from candletune.config import TrainConfig
from candletune.training.adapter import trained_device
from candletune.training.examples import TokenizedExample
from candletune.training.fast.attention import flash_usable
from candletune.training.fast.offload import offload_share
from candletune.training.fast.ops import ops_for
from candletune.training.fast.packing import pack, training_rows
from candletune.training.fast.plan import Footprint, Limits, ModelSizes, Plan, Workload, budget_bytes, choose_plan
from candletune.training.fast.weights import compute_type

STATIC_ROPE = ("default", "llama3", "linear", "yarn")
"""Kinds of rotary embedding whose table depends on nothing but the position."""


def unwrapped(model: Any) -> Any:
    """The causal model inside PEFT's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def unsupported(model: Any) -> str | None:
    """Why the fast engine cannot run this model, or None."""
    inner = unwrapped(model)
    shape = inner.config
    architecture = architecture_of({"model_type": shape.model_type})
    if architecture is None or not architecture.complete:
        return f"its type is {shape.model_type}, not {complete_types()}"
    rope = getattr(shape, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in STATIC_ROPE or rope.get("partial_rotary_factor") not in (None, 1, 1.0):
        return (
            f"its rotary embedding ({rope.get('rope_type', 'default')}) changes with the length or turns part of a head"
        )
    if shape.hidden_act != "silu" or getattr(shape, "attention_dropout", 0.0):
        return "its activation is not silu, or attention has dropout"
    for name, module in inner.named_modules():
        if getattr(module, "lora_variant", None) or getattr(module, "merged", False):
            return f"{name} is a LoRA variant or merged"
        if hasattr(module, "base_layer") and len(module.active_adapters) != 1:
            return f"{name} has not exactly one active adapter"
    return None


def shape_of(model: Any) -> ModelSizes:
    """The sizes the memory plan needs."""
    inner = unwrapped(model)
    shape = inner.config
    heads, table = shape.num_attention_heads, inner.model.embed_tokens.weight
    packed = any(isinstance(module, PackedLinear) for module in inner.modules())
    return ModelSizes(
        hidden=shape.hidden_size,
        feed_forward=shape.intermediate_size,
        heads=heads,
        kv_heads=shape.num_key_value_heads,
        head_size=getattr(shape, "head_dim", None) or shape.hidden_size // heads,
        layers=shape.num_hidden_layers,
        vocabulary=shape.vocab_size,
        item=compute_type(inner.model.embed_tokens).itemsize,
        expand=packed or any(hasattr(parameter, "quant_state") for parameter in inner.parameters()),
        head_norms=hasattr(inner.model.layers[0].self_attn, "q_norm"),
        packed_table=float(table.numel()) if packed else 0.0,
        tied=table is inner.lm_head.weight,
    )


def _records(model: Any, device: torch.device) -> bool:
    """Whether a CUDA graph can hold a pass: only with flash attention and the kernels does the host decide nothing."""
    if device.type != "cuda" or ops_for(str(device))[1] is not None:
        return False
    sizes, dtype = shape_of(model), compute_type(unwrapped(model).model.embed_tokens)
    return flash_usable(torch.empty(0, sizes.heads, sizes.head_size, dtype=dtype, device=device))


def plan_for(model: Any, config: TrainConfig, examples: Sequence[TokenizedExample], *, batch: int) -> Plan:
    """The memory plan for a model that is already on its device.

    Args:
        model: PEFT-wrapped model.
        config: training settings.
        examples: all training examples; the longest decide.
        batch: examples an optimizer step on this device.

    Raises:
        InputError: the budget is too small.
    """
    device = trained_device(model)
    if device.type == "cuda":
        allocated = float(torch.cuda.memory_allocated(device))
    else:
        allocated = float(sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())))
    rows, targets = training_rows(examples)
    packed = pack(rows, targets, torch.device("cpu"))
    shape = shape_of(model)
    largest = min(packed.tokens, batch * max(map(len, rows)))
    lengths = [(len(row), count) for row, count in zip(rows, targets, strict=True)]
    return choose_plan(
        shape,
        Workload(lengths, packed.prefix, batch),
        Footprint(allocated, sum(p.numel() for p in model.parameters() if p.requires_grad)),
        Limits(
            budget_bytes(config.vram_gib, device),
            config.batch_size,
            recompute=config.gradient_checkpointing or config.vram_gib is not None,
            host=device.type == "cuda",
            graphs=_records(model, device),
            offload_share=offload_share(shape, largest, device),
        ),
    )
