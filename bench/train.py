#!/usr/bin/env python3
"""Time an optimizer step of QLoRA: the plan's recipe, Unsloth (where it is installed) and candletune, in one go.

Every row trains on the same examples of a real dataset, 32 a step, rank 8 on q_proj and v_proj, paged 8-bit AdamW, and
runs in a process of its own. Unsloth first sees every batch once, to compile for its shape. Needs one CUDA GPU. Prints
seconds a step (median), peak GiB and the ratio to Unsloth's fastest step within the same memory; writes bench.json.

Rows `ours-gguf-*` train over a GGUF's blocks: the base's own file, or one of random blocks (bench/random_blocks.py).
For these rows alone BASE may be that file too: of it only the tokenizer is read. `--tokens` leaves out so many tokens
of every prompt that examples have that length on average.

Usage: python bench/train.py BASE DATASET.jsonl [--gguf FILE] [--rows plan,unsloth-32,...] [--steps 8] [--tokens 306]
                             [--out FOLDER]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
BATCH, BATCHES, GIB = 32, 12, 2**30
ROWS = {
    "plan": "the plan's recipe, 4 x 8, checkpointing",
    "unsloth-16": "Unsloth, 16 x 2, checkpointing",
    "unsloth-32": "Unsloth, 32 x 1, checkpointing",
    "unsloth-32-all": "Unsloth, 32 x 1, no checkpointing",
    "ours-8": "candletune, vram_gib = 8",
    "ours-8-aten": "candletune, vram_gib = 8, private attention operators",
    "ours-8-no-dropout": "candletune, vram_gib = 8, dropout 0 (as Unsloth)",
    "ours-10": "candletune, vram_gib = 10",
    "ours-all": "candletune, no limit",
    "ours-gguf-8": "candletune over GGUF blocks, vram_gib = 8",
    "ours-gguf-10": "candletune over GGUF blocks, vram_gib = 10",
    "ours-gguf-all": "candletune over GGUF blocks, no limit",
    "ours-all-aten": "candletune, no limit, private attention operators",
    "ours-all-no-dropout": "candletune, no limit, dropout 0 (as Unsloth)",
}
Step = Callable[[list[Any]], Any]


def read_examples(base: Path, dataset: Path) -> list[Any]:
    """Tokenize a dataset's messages as `candletune train` does."""
    from candletune.base.chat import MISTRAL, decision_tokens
    from candletune.base.tokenizer import load_tokenizer
    from candletune.training.examples import tokenize

    tokenizer = load_tokenizer(base)
    pairs = [
        [message["content"] for message in json.loads(line)["messages"]]
        for line in dataset.read_text().splitlines()[: BATCH * BATCHES]
    ]
    return tokenize(
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        tokenizer,
        tokens=decision_tokens(tokenizer.encode),
        chat=MISTRAL,
        limit=2048,
        decision_weight=1.0,
    )[0]


def shortened(rows: list[Any], tokens: float) -> list[Any]:
    """The examples without so many tokens in the middle of each prompt that they have `tokens` on average."""
    less = max(0, round(statistics.mean(len(row.ids) for row in rows) - tokens))
    return [
        replace(
            row,
            ids=row.ids[: row.prompt_length // 2] + row.ids[row.prompt_length // 2 + less :],
            prompt_length=row.prompt_length - less,
            decision_index=row.decision_index - less,
        )
        for row in rows
    ]


def cached_examples(wanted: argparse.Namespace) -> list[Any]:
    """The examples, tokenized once for all rows."""
    from candletune.training.examples import TokenizedExample

    cache = wanted.out / "examples.json"
    if not cache.exists():
        rows = read_examples(wanted.base, wanted.dataset)
        rows = shortened(rows, wanted.tokens) if wanted.tokens else rows
        cache.write_text(json.dumps([asdict(example) for example in rows]))
    return [
        TokenizedExample(tuple(e["ids"]), e["prompt_length"], e["decision_index"], tuple(e["weights"]))
        for e in json.loads(cache.read_text())
    ]


def padded(rows: list[Any]) -> dict[str, Any]:
    """The usual batch: padded at the end, labels on the answer only."""
    import torch

    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), 11)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        labels[number, row.prompt_length : len(row.ids)] = torch.tensor(row.ids[row.prompt_length :])
        mask[number, : len(row.ids)] = 1
    return {"input_ids": ids.cuda(), "labels": labels.cuda(), "attention_mask": mask.cuda()}


def plan_recipe(base: Path) -> tuple[Any, Step]:
    """The recipe as the documentation writes it: k-bit preparation, full logits, batch 4 x 8."""
    import peft
    import torch
    import transformers

    hub: Any = transformers
    tools: Any = peft
    quantization = hub.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = hub.AutoModelForCausalLM.from_pretrained(
        base, quantization_config=quantization, device_map={"": 0}, dtype=torch.bfloat16
    )
    model = tools.prepare_model_for_kbit_training(model)
    model.config.use_cache = False
    lora = tools.LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = tools.get_peft_model(model, lora)

    def step(rows: list[Any]) -> None:
        for start in range(0, BATCH, 4):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(**padded(rows[start : start + 4])).loss / 8
            loss.backward()

    return model.train(), step


def unsloth(base: Path, *, micro: int, checkpointing: bool) -> tuple[Any, Step]:
    """Unsloth's fast path; dropout 0, as its kernels need."""
    import torch
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        str(base), max_seq_length=2048, load_in_4bit=True, dtype=torch.bfloat16, local_files_only=True
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
        lora_dropout=0,
        bias="none",
        use_gradient_checkpointing="unsloth" if checkpointing else False,
    )
    FastLanguageModel.for_training(model)

    def step(rows: list[Any]) -> None:
        for start in range(0, BATCH, micro):
            (model(**padded(rows[start : start + micro])).loss * micro / BATCH).backward()

    return model, step


def ours(base: Path, examples: list[Any], *, vram_gib: float | None, dropout: float, aten: bool) -> tuple[Any, Step]:
    """candletune's fast engine under a memory budget; `aten`: with PyTorch's private attention operators."""
    import torch

    from candletune.config import TrainConfig
    from candletune.training.engine import EngineSetup
    from candletune.training.engines import load_model, open_engine
    from candletune.training.fast import attention

    if aten:
        attention.public_varlen = lambda: None  # type: ignore[assignment]
    config = TrainConfig(backend="fast", vram_gib=vram_gib, dropout=dropout, effective_batch=BATCH)
    model = load_model(base, config, "cuda", 0).train()
    engine = open_engine(model, EngineSetup(config, examples, 11, print))
    print(engine.plan.describe(), file=sys.stderr)

    def step(rows: list[Any]) -> None:
        total, weight = engine.loss(rows)
        torch.autograd.backward(total / weight)

    return model, step


def prepare(row: str, wanted: argparse.Namespace, examples: list[Any]) -> tuple[Any, Step]:
    """Model and step function of a row."""
    base: Path = wanted.base
    if row == "plan":
        return plan_recipe(base)
    if row.startswith("unsloth"):
        return unsloth(base, micro=int(row.split("-")[1]), checkpointing=not row.endswith("all"))
    parts = row.split("-")
    if "gguf" in parts:
        base = wanted.gguf
    limit = None if "all" in parts else float(next(part for part in parts if part.isdigit()))
    dropout = 0.0 if row.endswith("no-dropout") else 0.05
    return ours(base, examples, vram_gib=limit, dropout=dropout, aten=row.endswith("aten"))


def measure(row: str, wanted: argparse.Namespace) -> dict[str, Any]:
    """Time one row in this process."""
    import bitsandbytes
    import torch

    examples = cached_examples(wanted)
    began = time.perf_counter()
    model, step = prepare(row, wanted, examples)
    torch.cuda.synchronize()
    loading = time.perf_counter() - began
    trained = [p for p in model.parameters() if p.requires_grad]
    kit: Any = bitsandbytes
    optimizer = kit.optim.PagedAdamW8bit(trained, lr=2e-4)
    batches = [examples[start : start + BATCH] for start in range(0, BATCH * BATCHES, BATCH)]
    warm_up = BATCHES if row.startswith("unsloth") else 4
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for number in range(warm_up + wanted.steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(batches[number % BATCHES])
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    timed = seconds[warm_up:]
    tokens = statistics.mean(sum(len(example.ids) for example in rows) for rows in batches)
    median = statistics.median(timed)
    return {
        "row": row,
        "step_s": round(median, 4),
        "spread_s": [round(min(timed), 4), round(max(timed), 4)],
        "tokens_per_s": round(tokens / median),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
        "loading_s": round(loading, 1),
        "first_step_s": round(seconds[0], 1),
    }


def run_rows(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """Each row in its own process; one that fails is reported and the others go on."""
    rows = []
    (wanted.out / "examples.json").unlink(missing_ok=True)
    for row in wanted.rows.split(","):
        command = [sys.executable, __file__, str(wanted.base), str(wanted.dataset), "--one", row]
        command += ["--steps", str(wanted.steps), "--tokens", str(wanted.tokens), "--out", str(wanted.out)]
        command += ["--gguf", str(wanted.gguf)] if wanted.gguf else []
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        if result.returncode or not lines:
            (wanted.out / f"{row}.log").write_text(result.stdout + result.stderr)
            print(f"{row}: failed: {' '.join(result.stderr.split())[-300:]}", flush=True)
            continue
        rows.append(json.loads(lines[-1]))
        note = " ".join(line for line in result.stderr.splitlines() if "estimated peak" in line)
        print(json.dumps(rows[-1]), note, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: step time, peak, and the ratio to Unsloth's best within 8 GiB and without a limit."""
    peers = [row for row in rows if row["row"].startswith("unsloth")]
    small = min((row["spread_s"][0] for row in peers if row["peak_gib"] <= 8), default=None)
    large = min((row["spread_s"][0] for row in peers), default=None)
    lines = [
        "| what | s / step | tokens / s | peak GiB | ratio to Unsloth's fastest step |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        best = small if row["peak_gib"] <= 8 else large
        ratio = f"{row['step_s'] / best:.2f}" if best else "-"
        lines.append(
            f"| {ROWS[row['row']]} | {row['step_s']:.3f} | {row['tokens_per_s']:,} | {row['peak_gib']} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--gguf", type=Path, help="file of the rows ours-gguf-*; without it they are left out")
    parser.add_argument("--rows", help="all, without it")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=0, help="mean length of the examples; 0: as they are")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--one", choices=list(ROWS), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    wanted.rows = wanted.rows or ",".join(row for row in ROWS if wanted.gguf or "gguf" not in row)
    if wanted.gguf is None and "gguf" in (wanted.one or wanted.rows):
        parser.error("rows ours-gguf-* need --gguf FILE (python bench/random_blocks.py FILE writes one)")
    if wanted.one:
        print(json.dumps(measure(wanted.one, wanted)))
        return
    rows = run_rows(wanted)
    (wanted.out / "bench.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
