#!/usr/bin/env python3
"""Seconds and memory of writing a base GGUF from safetensors, and of loading it packed.

Each step runs in a process of its own. "Anonymous" is what a process must have; pages of mapped files come on top,
which the system may drop. With `--llama-cpp` the same file is made the usual way too: a BF16 copy, then llama.cpp's
quantizer. BASE needs a tokenizer (`python bench/random_base.py FOLDER --tokenizer FOLDER` copies one).

Usage: python bench/base.py BASE --out FOLDER [--type Q4_K_M] [--llama-cpp] [--device cuda]
"""

import argparse
import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from candletune.artifacts import ModelManifest
from candletune.console import SilentReporter


def write(base: Path, target: Path, kind: str) -> None:
    """As the base stage does."""
    from candletune.gguf.whole_models import write_base

    write_base(base, target, kind, ModelManifest(base="bench"), SilentReporter())


def write_twice(base: Path, target: Path, kind: str) -> None:
    """A BF16 file, then llama.cpp's quantizer from file to file."""
    from candletune.gguf.quantize import quantize

    plain = target.with_suffix(".bf16")
    write(base, plain, "BF16")
    quantize(plain, target, kind)
    plain.unlink()


def load(path: Path, device: str) -> None:
    """The packed model on a device."""
    import torch

    from candletune.base.from_gguf import load_packed

    load_packed(path, device, torch.bfloat16 if device == "cuda" else torch.float32)
    if device == "cuda":
        torch.cuda.synchronize()


def anonymous_gib() -> float:
    """The most that this process had of memory that no file backs: its highest resident size less mapped pages."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return (int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0])) / 2**20


def one(step: str, arguments: argparse.Namespace) -> None:
    """A step, timed; prints a JSON line."""
    out: Path = arguments.out
    ours, theirs = out / "base.gguf", out / "theirs.gguf"
    import torch

    import_module("transformers").AutoModelForCausalLM  # noqa: B018, imported before the clock starts
    if step == "load" and arguments.device == "cuda":
        torch.zeros(1, device="cuda")  # the context is not counted
    began = time.perf_counter()
    if step == "write":
        write(arguments.base, ours, arguments.type)
    elif step == "write twice":
        write_twice(arguments.base, theirs, arguments.type)
    else:
        load(ours, arguments.device)
    print(json.dumps({"step": step, "seconds": time.perf_counter() - began, "gib": anonymous_gib()}))


def main() -> None:
    """Run every step, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("base", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--llama-cpp", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("| step | seconds | anonymous GiB at the end |\n| --- | --- | --- |")
    for step in ("write", *(["write twice"] if arguments.llama_cpp else []), "load", "load"):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", step]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {step} | {found['seconds']:.1f} | {found['gib']:.2f} |")
    print(f"{(arguments.out / 'base.gguf').stat().st_size / 2**30:.2f} GiB as {arguments.type}")


if __name__ == "__main__":
    main()
