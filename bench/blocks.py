#!/usr/bin/env python3
"""Time the kernels that expand GGUF blocks: against the memory, the plain torch functions and bitsandbytes' NF4.

Every packed type at Ministral-8B's gate matrix, then the matrices of a Q4_K_M model, random blocks, bfloat16 numbers. A
row's kernel runs in a CUDA graph over copies that together do not fit the cache. The floor is the time in which a copy
on the same GPU moves as many bytes as the kernel must read and write. Before it is timed each kernel's float32 numbers
are compared with the `gguf` package's bit by bit, its bfloat16 numbers with their rounding. Needs one CUDA GPU and
Triton; takes less than a minute.

Usage: python bench/blocks.py [--sweep] [--out FILE.json]
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import gguf
from candletune.gguf import block_kernels
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from gguf import GGMLQuantizationType
from random_base import FEED_FORWARD, HIDDEN
from random_blocks import SCALES, matrices, random_blocks

LAYERS, COMPARED, BEYOND_CACHE = 36, 512, 400e6
"""Layers of the model, rows compared bit by bit, and bytes that no cache holds."""
SWEEP = ((64, 2), (128, 4), (256, 8), (256, 4), (512, 8), (512, 4), (1024, 8))
"""Octets and warps a program."""
SWEPT = (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q6_K, GGMLQuantizationType.Q3_K, GGMLQuantizationType.Q8_0)


class Shape(NamedTuple):
    """A matrix: its type and sizes."""

    kind: GGMLQuantizationType
    rows: int
    columns: int

    @property
    def packed(self) -> int:
        """Bytes of its blocks."""
        return self.rows * self.columns // BLOCK_TYPES[self.kind].weights * BLOCK_TYPES[self.kind].bytes

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.packed + self.rows * self.columns * 2


def seconds(work: Sequence[Callable[[], object]], *, graph: bool = True) -> float:
    """Seconds one of several calls takes: the median of five rounds over all of them."""

    def run() -> None:
        for call in work:
            call()

    run()
    torch.cuda.synchronize()
    if graph:
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            run()
        run = recorded.replay
    found = []
    events: Any = torch.cuda.Event
    for _ in range(6):
        start, stop = events(enable_timing=True), events(enable_timing=True)
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        found.append(float(start.elapsed_time(stop)) / 1e3 / len(work))
    return statistics.median(found[1:])


def copy_bandwidth() -> float:
    """Bytes a second that a copy on the GPU reads and writes."""
    source = torch.zeros(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * len(source) / seconds([partial(target.copy_, source)] * 4)


def copies_of(shape: Shape, draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Blocks and their targets, more than a cache holds."""
    count = min(32, max(2, round(BEYOND_CACHE / shape.moved)))
    blocks = random_blocks(*shape, draw)
    return [
        (blocks.clone(), torch.empty(shape.rows, shape.columns, dtype=torch.bfloat16, device="cuda"))
        for _ in range(count)
    ]


def difference(shape: Shape, blocks: Tensor) -> str | None:
    """How the kernel's numbers differ from the reference's, or None."""
    part = blocks[:COMPARED].contiguous()
    expected = torch.from_numpy(gguf.quants.dequantize(part.cpu().numpy(), shape.kind).astype(np.float32))
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16)):
        found = torch.empty(expected.shape, dtype=dtype, device="cuda")
        block_kernels.expand_into(found, part, shape.kind)
        wrong = (found.cpu().view(bits) != expected.to(dtype).view(bits)).sum().item()
        if wrong:
            return f"{wrong} of {expected.numel()} differ as {str(dtype).removeprefix('torch.')}"
    return None


def nf4_seconds(shape: Shape) -> float | None:
    """Seconds in which bitsandbytes expands the same matrix from NF4 with double quantization; None: not installed."""
    try:
        from bitsandbytes import functional
    except ImportError:
        return None
    weight = torch.randn(shape.rows, shape.columns, dtype=torch.bfloat16, device="cuda")
    packed, state = functional.quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
    count = min(32, max(2, round(BEYOND_CACHE / shape.moved)))
    pairs = [(packed.clone(), torch.empty_like(weight)) for _ in range(count)]
    work = [partial(functional.dequantize_4bit, packed, state, out=target) for packed, target in pairs]
    try:
        return seconds(work)
    except RuntimeError:  # a version that cannot be recorded
        return seconds(work, graph=False)


def measure(shape: Shape, bandwidth: float, draw: torch.Generator) -> dict[str, Any]:
    """One matrix: seconds of kernel, floor, torch and NF4."""
    pairs = copies_of(shape, draw)
    wrong = difference(shape, pairs[0][0])
    kernel = seconds([partial(block_kernels.expand_into, target, blocks, shape.kind) for blocks, target in pairs])
    blocks, target = pairs[0]
    plain: float | None = None
    if shape.rows * shape.columns <= FEED_FORWARD * HIDDEN:
        plain = seconds([lambda: target.copy_(dequantize(blocks, shape.kind))] * 2, graph=False)
    del pairs
    return {
        "type": shape.kind.name,
        "rows": shape.rows,
        "columns": shape.columns,
        "kernel_s": kernel,
        "floor_s": shape.moved / bandwidth,
        "gb_per_s": shape.moved / kernel / 1e9,
        "torch_s": plain,
        "nf4_s": nf4_seconds(shape),
        "differs": wrong,
    }


def launch_seconds() -> float:
    """Seconds the host needs to launch one kernel."""
    blocks = torch.zeros(8, 144 * 16, dtype=torch.uint8, device="cuda")
    target = torch.empty(8, 4096, dtype=torch.bfloat16, device="cuda")
    block_kernels.expand_into(target, blocks, GGMLQuantizationType.Q4_K)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(500):
        block_kernels.expand_into(target, blocks, GGMLQuantizationType.Q4_K)
    return (time.perf_counter() - began) / 500


def table(rows: list[dict[str, Any]], bandwidth: float) -> str:
    """Markdown."""

    def micro(value: float | None) -> str:
        return "-" if value is None else f"{value * 1e6:,.0f}"

    lines = [
        f"{torch.cuda.get_device_name()}; a copy moves {bandwidth / 1e9:,.0f} GB/s",
        "",
        "| type | matrix | kernel us | GB/s | of the copy's | torch us | NF4 us | kernel / NF4 | numbers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = "-" if row["nf4_s"] is None else f"{row['kernel_s'] / row['nf4_s']:.2f}"
        lines.append(
            f"| {row['type']} | {row['rows']} x {row['columns']} | {micro(row['kernel_s'])} | {row['gb_per_s']:,.0f} | "
            f"{row['floor_s'] / row['kernel_s']:.0%} | {micro(row['torch_s'])} | {micro(row['nf4_s'])} | {ratio} | "
            f"{row['differs'] or 'equal'} |"
        )
    return "\n".join(lines)


def whole_model(rows: list[dict[str, Any]], counts: Counter[Shape]) -> str:
    """Milliseconds in which a pass expands every layer of the Q4_K_M model."""
    known = {(row["type"], row["rows"], row["columns"]): row for row in rows}

    def total(key: str) -> str:
        found = [known[shape.kind.name, shape.rows, shape.columns][key] for shape in counts]
        if None in found:
            return "-"
        return f"{1e3 * sum(value * count for value, count in zip(found, counts.values(), strict=True)):.1f} ms"

    return (
        f"all {LAYERS} layers and the head, once: kernels {total('kernel_s')}, memory alone {total('floor_s')}, "
        f"NF4 {total('nf4_s')}; one launch takes the host {launch_seconds() * 1e6:.0f} us"
    )


def sweep(draw: torch.Generator) -> str:
    """Markdown: GB/s by octets and warps a program."""
    lines = [
        "| type | " + " | ".join(f"{octets} by {warps}" for octets, warps in SWEEP) + " |",
        "| --- |" + " --- |" * len(SWEEP),
    ]
    for kind in SWEPT:
        shape = Shape(kind, FEED_FORWARD, HIDDEN)
        pairs, kernel = copies_of(shape, draw), block_kernels.KERNELS[kind]
        count = shape.packed // BLOCK_TYPES[kind].bytes
        speeds = []
        for octets, warps in SWEEP:
            grid = (-(-shape.rows * shape.columns // (8 * octets)),)
            options = {**block_kernels.OPTIONS, "num_warps": warps, "OCTETS": octets}
            calls = [partial(kernel[grid], blocks, target, count, **options) for blocks, target in pairs]
            speeds.append(f"{shape.moved / seconds(calls) / 1e9:,.0f}")
        lines.append(f"| {kind.name} | {' | '.join(speeds)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweep", action="store_true", help="also GB/s by the kernels' block sizes")
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    draw = torch.Generator("cuda").manual_seed(0)
    counts = Counter(Shape(kind, rows, columns) for name, kind, rows, columns in matrices(LAYERS) if "embd" not in name)
    shapes = dict.fromkeys([*(Shape(kind, FEED_FORWARD, HIDDEN) for kind in SCALES), *counts])
    bandwidth = copy_bandwidth()
    rows = [measure(shape, bandwidth, draw) for shape in shapes]
    print(table(rows, bandwidth))
    print(f"\n{whole_model(rows, counts)}")
    if wanted.sweep:
        print(f"\n{sweep(draw)}")
    if wanted.out:
        wanted.out.write_text(json.dumps(rows, indent=1))
    if any(row["differs"] for row in rows):
        raise SystemExit("numbers differ from the gguf package's")


if __name__ == "__main__":
    main()
