#!/usr/bin/env python3
"""Time an optimizer step at three sizes of base: Transformers + PEFT, the fast engine, and the same with CUDA graphs.

Random bfloat16 weights of SmolLM2-135M's, Llama-3.2-1B's and Ministral-8B's shapes, rank 8 on q_proj and v_proj, 32
examples a step of the lengths of real ones (mean 330 tokens, 43 of them answer, 98 shared), paged 8-bit AdamW. Each row
runs in a process of its own. Needs one CUDA GPU; prints seconds a step (median) and the ratio to Transformers' step.

Usage: python bench/small_bases.py [--rows 135m-graphs,...] [--steps 20]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

BATCH, BATCHES, GIB = 32, 12, 2**30
SHARED, ANSWER, WARM_UP = 98, 43, 24
SHAPES = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 131072, "tie_word_embeddings": False},
}  # fmt: skip
WAYS = ("transformers", "fast", "graphs")
Step = Callable[[list[Any]], None]


def examples(vocabulary: int) -> list[Any]:
    """Random ids with the lengths of real examples."""
    from candletune.training.examples import TokenizedExample

    rng = random.Random(7)  # noqa: S311
    shared = [rng.randrange(3, vocabulary) for _ in range(SHARED)]
    rows = []
    for _ in range(BATCH * BATCHES):
        own, answer = rng.randrange(165, 215), rng.randrange(ANSWER - 12, ANSWER + 13)
        ids = (*shared, *(rng.randrange(3, vocabulary) for _ in range(own + answer)))
        rows.append(TokenizedExample(ids, SHARED + own, SHARED + own + 3, (1.0,) * answer))
    return rows


def random_model(shape: dict[str, Any]) -> Any:
    """Random weights on the GPU, with PEFT's adapter."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048, initializer_range=0.02))
    torch.set_default_dtype(torch.float32)
    tools: Any = peft
    lora = tools.LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    return tools.get_peft_model(model, lora).train()


def transformers_step(model: Any) -> Step:
    """Padded batches of 8, full logits at the answers' places only where Transformers can."""
    import torch

    def step(rows: list[Any]) -> None:
        for start in range(0, BATCH, 8):
            part = rows[start : start + 8]
            width = max(len(row.ids) for row in part)
            ids, labels = torch.zeros(len(part), width, dtype=torch.long), torch.full((len(part), width), -100)
            mask = torch.zeros(len(part), width, dtype=torch.long)
            for number, row in enumerate(part):
                ids[number, : len(row.ids)] = torch.tensor(row.ids)
                labels[number, row.prompt_length : len(row.ids)] = torch.tensor(row.ids[row.prompt_length :])
                mask[number, : len(row.ids)] = 1
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(input_ids=ids.cuda(), labels=labels.cuda(), attention_mask=mask.cuda()).loss / 4
            loss.backward()

    return step


def fast_step(model: Any, rows: list[Any], *, graphs: bool) -> Step:
    """candletune's engine, with graphs or without whatever its plan says."""
    import torch

    from candletune.config import TrainConfig
    from candletune.training.fast.engine import FastEngine
    from candletune.training.fast.preflight import plan_for

    plan = plan_for(model, TrainConfig(effective_batch=BATCH, quantization="none"), rows, batch=BATCH)
    print(plan.describe(), file=sys.stderr)
    engine = FastEngine(model, replace(plan, graphs=graphs), say=lambda text: print(text, file=sys.stderr))

    def step(part: list[Any]) -> None:
        total, weight = engine.loss(part)
        torch.autograd.backward(total / weight)

    return step


def measure(row: str, steps: int) -> dict[str, Any]:
    """Time one row in this process."""
    import bitsandbytes
    import torch

    size, way = row.split("-")
    model, rows = random_model(SHAPES[size]), examples(SHAPES[size]["vocab_size"])
    step = transformers_step(model) if way == "transformers" else fast_step(model, rows, graphs=way == "graphs")
    kit: Any = bitsandbytes
    optimizer = kit.optim.PagedAdamW8bit([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    batches = [rows[start : start + BATCH] for start in range(0, BATCH * BATCHES, BATCH)]
    torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for number in range(WARM_UP + steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(batches[number % BATCHES])
        losses.append(time.perf_counter() - began)
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    timed = seconds[WARM_UP:]
    return {
        "row": row,
        "step_s": round(statistics.median(timed), 4),
        "spread_s": [round(min(timed), 4), round(max(timed), 4)],
        "host_s": round(statistics.median(losses[WARM_UP:]), 4),
        "warm_up_s": round(sum(seconds[:WARM_UP]), 1),
        "peak_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
    }


def main() -> None:
    """Each row in its own process; ratios to Transformers at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default=",".join(f"{size}-{way}" for size in SHAPES for way in WAYS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(json.dumps(measure(wanted.one, wanted.steps)))
        return
    found: dict[str, float] = {}
    for row in wanted.rows.split(","):
        command = [sys.executable, __file__, "--one", row, "--steps", str(wanted.steps)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        if result.returncode or not lines:
            print(f"{row}: failed: {' '.join(result.stderr.split())[-400:]}", flush=True)
            continue
        found[row] = json.loads(lines[-1])["step_s"]
        note = " ".join(line for line in result.stderr.splitlines() if "peak" in line or "graphs" in line)
        peer = found.get(f"{row.split('-')[0]}-transformers")
        print(lines[-1], f"ratio {found[row] / peer:.3f}" if peer else "", note, flush=True)


if __name__ == "__main__":
    main()
