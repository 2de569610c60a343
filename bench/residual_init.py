#!/usr/bin/env python3
"""Does an adapter that begins as what quantization took away (LoftQ) gain over a fresh one, over served blocks?

For each weight W of which llama.cpp serves Q(W), LoftQ (Li et al. 2023) begins with the best matrix of the adapter's
rank for W - Q(W), by singular values, where PEFT begins at zero. The blocks are fixed here, since they are served, so
of LoftQ's alternation this is its one step. Everything else is the same: the demo's market with a signal, the tiny
base's float weights and their blocks, examples, order, steps. The phase that teaches how often to act is left out.

    python bench/residual_init.py --types Q4_0 Q2_K --seeds 3 --out runs/residual

Prints, a type and seed a row, how much of the residual's norm the adapter takes up, and for both beginnings balanced
accuracy and log loss on the held-out rows. CPU; one thread is set by OMP_NUM_THREADS=1.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from candletune.base.find import resolve_source
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.demo import demo_config
from candletune.gguf.names import gguf_name, in_transformers_order
from candletune.model_shape import read_shape
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

BEGINNINGS = ("zero", "residual")


def residual_adapter(config: Config, gguf: Path, folder: Path) -> float:
    """Write a PEFT folder whose product is the residual's best approximation; returns the share of its norm taken up.

    Args:
        config: rank, alpha and target modules.
        gguf: the served base.
        folder: for `adapter_model.safetensors`.
    """
    import torch
    from safetensors.torch import load_file, save_file

    import gguf as library
    from candletune.gguf.dequantize import dequantize

    base = resolve_source(config, SilentReporter()).path
    shape = read_shape(base)
    served = {tensor.name: tensor for tensor in library.GGUFReader(gguf).tensors}
    rank, scale = config.train.lora_rank, config.train.lora_alpha / config.train.lora_rank
    found: dict[str, torch.Tensor] = {}
    whole = taken = 0.0
    weights = {name: value for file in sorted(base.glob("*.safetensors")) for name, value in load_file(file).items()}
    for name, value in weights.items():
        module = name.removesuffix(".weight")
        if not module.endswith(tuple(config.train.target_modules)):
            continue
        tensor = served[str(gguf_name(name, shape))]
        expanded = dequantize(torch.from_numpy(np.array(tensor.data)), tensor.tensor_type)
        residual = value.float() - in_transformers_order(module, expanded, shape)
        left, sizes, right = torch.linalg.svd(residual, full_matrices=False)
        root = sizes[:rank].sqrt()
        found[f"base_model.model.{module}.lora_A.weight"] = (root[:, None] * right[:rank]).contiguous()
        found[f"base_model.model.{module}.lora_B.weight"] = (left[:, :rank] * root / scale).contiguous()
        whole += float(sizes.square().sum())
        taken += float(sizes[:rank].square().sum())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, folder / "adapter_model.safetensors")
    return math.sqrt(taken / whole)


def one(folder: Path, kind: str, seed: int) -> dict[str, Any]:
    """Both trainings over one base file and one dataset."""
    kept = folder / "result.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    row: dict[str, Any] = {"type": kind, "seed": seed}
    settings = (f"base.serve_type={kind}", "train.policy_steps=0", "train.eval_steps=0")
    for beginning in BEGINNINGS:
        run = RunFolder(folder / beginning)
        run.path.mkdir(parents=True, exist_ok=True)
        config = demo_config(run.path, signal=1.0, seed=seed, assignments=settings)
        with run.lock():
            config = prepare(config, run, SilentReporter())
            for name in ("base", "dataset"):
                run_stage(stage(name), config, run, SilentReporter())
            if beginning == "residual":
                row["taken up"] = residual_adapter(config, run.base_gguf, folder / "begun")
                begun = config.train.model_copy(update={"init_adapter": folder / "begun"})
                config = config.model_copy(update={"train": begun})
            run_stage(stage("train"), config, run, SilentReporter())
        found = json.loads((run.path / "train" / "summary.json").read_text())["eval"]
        row[beginning] = {key: found[key] for key in ("balanced_accuracy", "log_loss")}
    kept.write_text(json.dumps(row))
    return row


def main() -> None:
    """Every type and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q2_K"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/residual"))
    given = parser.parse_args()
    print(
        "| served | seed | of the residual's norm | balanced accuracy, fresh | residual | log loss, fresh | residual |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in given.types:
        for seed in range(1, given.seeds + 1):
            row = one(given.out / f"{kind}-{seed}", kind, seed)
            scores = [f"{row[begun][key]:.4f}" for key in ("balanced_accuracy", "log_loss") for begun in BEGINNINGS]
            print(f"| {kind} | {seed} | {row['taken up']:.0%} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
