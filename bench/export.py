#!/usr/bin/env python3
"""Export at a base's full size: candletune beside llama.cpp's own converters, each step in a process of its own.

    python bench/random_base.py BASE --tokenizer FOLDER
    python bench/export.py BASE --llama-cpp LLAMA_CPP --out FOLDER [--limit-gib 6] [--rows ours-adapter,...]

Steps: the adapter to GGUF; the adapter merged into the base and written as F16; F16 to Q4_K_M. The peer merges with
PEFT, writes the checkpoint, and converts that. A random rank-8 adapter on q_proj and v_proj is made first. Prints
seconds, the most anonymous memory (what a process must have; pages of a mapped file can be dropped) and the most
resident memory. Our steps run under a hard limit on data (`--limit-gib`). Files that no later step needs are deleted:
disk for three copies of the base is enough. LLAMA_CPP is the folder of convert_hf_to_gguf.py, as in llama-cpp-python's
source package.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

GIB = 2**30
ROWS = {
    "ours-adapter": "adapter to GGUF, candletune",
    "peer-adapter": "adapter to GGUF, convert_lora_to_gguf.py",
    "ours-merge": "merge and write F16, candletune",
    "ours-quantize": "F16 to Q4_K_M, llama.cpp's quantizer through candletune",
    "peer-merge": "merge with PEFT and save the checkpoint",
    "peer-convert": "that checkpoint to F16, convert_hf_to_gguf.py",
}


def make_adapter(base: Path, folder: Path) -> None:
    """A PEFT folder of rank 8 on q_proj and v_proj, random, without loading the base."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    shape = json.loads((base / "config.json").read_text())
    hidden = shape["hidden_size"]
    out = {"q_proj": shape["num_attention_heads"] * shape["head_dim"]}
    out["v_proj"] = shape["num_key_value_heads"] * shape["head_dim"]
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, rows in out.items():
            start = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{start}.lora_A.weight"] = torch.randn(8, hidden, generator=draw) * 0.02
            tensors[f"{start}.lora_B.weight"] = torch.randn(rows, 8, generator=draw) * 0.02
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=list(out), task_type="CAUSAL_LM", base_model_name_or_path="x")
    lora.save_pretrained(str(folder))


def ours(row: str, base: Path, adapter: Path, out: Path) -> None:
    """One of our steps, in this process."""
    from candletune.console import SilentReporter
    from candletune.gguf.adapter import write_adapter
    from candletune.gguf.model import write_model
    from candletune.gguf.peft import read_adapter
    from candletune.gguf.quantize import quantize
    from candletune.model_shape import read_shape

    shape = read_shape(base)
    if row == "ours-adapter":
        write_adapter(
            read_adapter(adapter, shape), shape, out / "ours-lora.gguf", number_format="F32", manifest={}, name="x"
        )
    elif row == "ours-merge":
        write_model(
            base,
            out / "ours.f16.gguf",
            number_format="F16",
            name="x",
            manifest={},
            reporter=SilentReporter(),
            adapter=read_adapter(adapter, shape),
        )
    else:
        quantize(out / "ours.f16.gguf", out / "ours.q4_k_m.gguf", "Q4_K_M")
        (out / "ours.f16.gguf").unlink()


def merge_with_peft(base: Path, adapter: Path, target: Path) -> None:
    """What the documentation of PEFT says: load, merge, save."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(target)
    for path in base.glob("*token*"):
        shutil.copy(path, target)


def command_of(row: str, wanted: argparse.Namespace, adapter: Path) -> list[str]:
    """The process of a row."""
    out: Path = wanted.out
    if row == "peer-adapter":
        script, target = str(wanted.llama_cpp / "convert_lora_to_gguf.py"), str(out / "peer-lora.gguf")
        options = ["--base", str(wanted.base), "--outfile", target, "--outtype", "f32"]
        return [sys.executable, script, *options, str(adapter)]
    if row == "peer-convert":
        # It knows tokenizers by a hash only; told that the splitting is Tekken's, it needs no download.
        code = (
            "import runpy, sys\n"
            f"sys.path[:0] = [{str(wanted.llama_cpp)!r}, {str(wanted.llama_cpp / 'gguf-py')!r}]\n"
            "from conversion.base import TextModel\n"
            "TextModel.get_vocab_base_pre = lambda self, tokenizer: 'tekken'\n"
            "def missing(self, *_):\n    raise FileNotFoundError\n"
            "TextModel._create_vocab_sentencepiece = missing\n"
            f"sys.argv = ['x', '--outtype', 'f16', '--outfile', {str(out / 'peer.f16.gguf')!r}]\n"
            f"sys.argv.append({str(out / 'merged')!r})\n"
            f"runpy.run_path({str(wanted.llama_cpp / 'convert_hf_to_gguf.py')!r}, run_name='__main__')\n"
        )
        return [sys.executable, "-c", code]
    return [sys.executable, __file__, str(wanted.base), "--out", str(out), "--one", row]


class Watched:
    """Runs a command and follows its memory in /proc, every 20 ms."""

    def __init__(self, command: list[str], limit: int | None) -> None:
        def cap() -> None:
            if limit:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        start = time.perf_counter()
        self.anonymous = self.resident = 0
        with subprocess.Popen(
            command, preexec_fn=cap, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            follower = threading.Thread(target=self._follow, args=(process,))
            follower.start()
            self.output = process.communicate()[0]
            follower.join()
        self.code, self.seconds = process.returncode, time.perf_counter() - start

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        path = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
            except OSError:
                return
            if "RssAnon" in lines:
                self.anonymous = max(self.anonymous, int(lines["RssAnon"].split()[0]) * 1024)
                self.resident = max(self.resident, int(lines["VmHWM"].split()[0]) * 1024)
            time.sleep(0.02)


def clean(row: str, out: Path) -> None:
    """Delete what no later row reads."""
    if row == "peer-convert":
        shutil.rmtree(out / "merged", ignore_errors=True)
        (out / "peer.f16.gguf").unlink(missing_ok=True)


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit-gib", type=float, default=6.0)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--one", choices=list(ROWS), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    adapter = wanted.out / "adapter"
    if wanted.one == "peer-merge":
        merge_with_peft(wanted.base, adapter, wanted.out / "merged")
        return
    if wanted.one:
        ours(wanted.one, wanted.base, adapter, wanted.out)
        return
    make_adapter(wanted.base, adapter)
    print(
        f"{os.cpu_count()} processors\n\n| step | seconds | anonymous GiB | resident GiB |\n| --- | --- | --- | --- |"
    )
    for row in wanted.rows.split(","):
        limit = int(wanted.limit_gib * GIB) if row.startswith("ours") else None
        done: Any = Watched(command_of(row, wanted, adapter), limit)
        if done.code:
            print(f"{ROWS[row]}: failed: {' '.join(done.output.split())[-400:]}", flush=True)
        else:
            sizes = f"{done.anonymous / GIB:.2f} | {done.resident / GIB:.2f}"
            print(f"| {ROWS[row]} | {done.seconds:.1f} | {sizes} |", flush=True)
        clean(row, wanted.out)


if __name__ == "__main__":
    main()
