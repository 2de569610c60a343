"""A LoRA over the packaged tiny base, without torch: random matrices of the sizes that the base's header says."""

import random
import struct
from pathlib import Path

from candletune.base.tiny import PACKAGED
from candletune.console import SilentReporter
from candletune.gguf.header import read_header
from candletune.gguf.model import write_model
from fuzz.gguf_cases import STRING, File, Info, Pair

RANK = 4


def write_tiny_base(target: Path) -> Path:
    """The tiny base as GGUF."""
    write_model(PACKAGED, target, number_format="F32", name="tiny", manifest={}, reporter=SilentReporter())
    return target


def tiny_lora(base: Path, seed: int = 1) -> File:
    """A LoRA over its first block's query and value matrices."""
    rng = random.Random(seed)  # noqa: S311
    sizes = {entry.name: entry.sizes for entry in read_header(base).tensors}
    file = File(
        [
            Pair("general.architecture", STRING, "llama"),
            Pair("general.type", STRING, "adapter"),
            Pair("adapter.type", STRING, "lora"),
            Pair("adapter.lora.alpha", 6, 8.0),
        ]
    )
    for name in ("blk.0.attn_q.weight", "blk.0.attn_v.weight"):
        columns, rows = sizes[name]
        for part, shape in (("a", (columns, RANK)), ("b", (RANK, rows))):
            count = shape[0] * shape[1]
            data = struct.pack(f"<{count}f", *(rng.gauss(0, 0.05) for _ in range(count)))
            file.tensors.append(Info(f"{name}.lora_{part}", shape, 0, data))
    return file
