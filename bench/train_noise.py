#!/usr/bin/env python3
"""How far two bfloat16 computations of the same gradient lie apart, on a CPU in under a minute.

A random 36-layer Mistral of hidden size 512. Cosine similarities of all LoRA gradients: the reference (Transformers +
PEFT) in float32 and bfloat16, the fast engine in both, and the reference in bfloat16 with its other attention kernel.

Usage: python bench/train_noise.py
"""

import random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import MistralConfig, MistralForCausalLM

from candletune.training.examples import TokenizedExample
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.plan import Plan

VOCABULARY, SHARED, OWN, ANSWER, ROWS = 2000, 40, 60, 20, 6


def build(dtype: torch.dtype) -> Any:
    """The model; LoRA B is not zero and LoRA stays float32."""
    torch.manual_seed(0)
    shape = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=36,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        sliding_window=None,
        initializer_range=0.0566,  # Ministral's random stand-in has 0.02 at hidden size 4096: the same gain
    )
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    kind: Any = MistralForCausalLM
    model = get_peft_model(kind(shape).to(dtype), lora)
    draw = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * 0.0566)
    return model.train()


def examples() -> list[TokenizedExample]:
    """Random rows with a shared beginning."""
    draw = random.Random(0)  # noqa: S311
    lead = [draw.randrange(10, VOCABULARY) for _ in range(SHARED)]
    rows = []
    for _ in range(ROWS):
        ids = lead + [draw.randrange(10, VOCABULARY) for _ in range(OWN + ANSWER)]
        rows.append(TokenizedExample(tuple(ids), SHARED + OWN, SHARED + OWN + 1, (1.0,) * ANSWER))
    return rows


def gradient(model: Any, loss: Tensor) -> Tensor:
    """All LoRA gradients in one float64 vector."""
    torch.autograd.backward(loss)
    grads = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return grads


def plain(model: Any, rows: list[TokenizedExample]) -> Tensor:
    """The reference's loss over all rows (they are equally long)."""
    ids = torch.tensor([row.ids for row in rows])
    logits = model(input_ids=ids).logits.float()[:, SHARED + OWN - 1 : -1]
    return cross_entropy(logits.flatten(0, 1), ids[:, SHARED + OWN :].flatten(), reduction="sum")


def main() -> None:
    """Print the similarities."""
    rows, grads = examples(), {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = build(dtype)
        grads[f"reference {name}"] = gradient(model, plain(model, rows))
        engine = FastEngine(model, Plan(ROWS, 0, False, False, False, 4096), say=print)
        grads[f"fast {name}"] = gradient(model, engine.loss(rows)[0])
    model.get_base_model().set_attn_implementation("eager")
    grads["reference bfloat16, eager attention"] = gradient(model, plain(model, rows))
    names = list(grads)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            print(f"{first:20} | {second:36} {float(cosine_similarity(grads[first], grads[second], dim=0)):.5f}")


if __name__ == "__main__":
    main()
