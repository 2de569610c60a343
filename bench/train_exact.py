#!/usr/bin/env python3
"""Compare the fast engine's loss and LoRA gradients with Transformers + PEFT at the base's full size.

One optimizer step's examples, dropout off, LoRA B random. Transformers + PEFT and the fast engine, each computing in
float32 and in bfloat16 over the same NF4 weights. Prints losses and cosine similarities. Needs a CUDA GPU.

Usage: python bench/train_exact.py BASE DATASET.jsonl
"""

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from candletune.config import TrainConfig
from candletune.training.adapter import load_with_adapter
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.preflight import plan_for
from train import read_examples


def adapted(base: Path, *, bf16: bool) -> Any:
    """The NF4 base with an adapter whose B is not zero; the same for every compute type."""
    config = TrainConfig(bf16=bf16, dropout=0.0)
    model = load_with_adapter(base, config, "cuda", 0).train()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * 0.02)
    return model


def plain(model: Any, rows: list[Any]) -> tuple[float, Tensor]:
    """Loss and gradients of Transformers + PEFT, one row at a time."""
    total = 0.0
    for row in rows:
        ids = torch.tensor([row.ids], device="cuda")
        logits = model(input_ids=ids).logits[0].float()[row.prompt_length - 1 : -1]
        loss = cross_entropy(logits, ids[0, row.prompt_length :], reduction="sum")
        torch.autograd.backward(loss)
        total += loss.item()
    return total, gradients(model)


def gradients(model: Any) -> Tensor:
    """All LoRA gradients in one float64 vector."""
    grads = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return grads


def main() -> None:
    """Run the three and print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--rows", type=int, default=32)
    wanted = parser.parse_args()
    rows = read_examples(wanted.base, wanted.dataset)[: wanted.rows]
    losses, grads = {}, {}
    for name, bf16 in (("float32", False), ("bfloat16", True)):
        model = adapted(wanted.base, bf16=bf16)
        losses[name], grads[name] = plain(model, rows)
        engine = FastEngine(model, plan_for(model, TrainConfig(vram_gib=80), rows, batch=len(rows)), say=print)
        total, _ = engine.loss(rows)
        torch.autograd.backward(total)
        losses[f"fast {name}"], grads[f"fast {name}"] = total.item(), gradients(model)
        del model, engine, total
        gc.collect()
        torch.cuda.empty_cache()

    def cosine(first: str, second: str) -> float:
        return round(float(torch.cosine_similarity(grads[first], grads[second], dim=0)), 7)

    names = list(grads)
    pairs = {f"{a}, {b}": cosine(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}
    off = float((grads["fast float32"] - grads["float32"]).norm() / grads["float32"].norm())
    print(json.dumps({"loss": losses, "cosine": pairs, "relative difference in float32": off}, indent=1))


if __name__ == "__main__":
    main()
