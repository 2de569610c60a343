"""The kernels that expand blocks give what `dequantize` gives, bit for bit, and compile for Ampere and Hopper."""

from pathlib import Path
from typing import Any

import pytest

from candletune.gguf.dequantize import BLOCK_TYPES
from triton_scripts import interpreted_without_gpu, run

COMPARE = """
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

from block_data import HALVES, extreme_blocks, random_blocks
from candletune.gguf import block_kernels
from candletune.gguf.dequantize import BLOCK_TYPES

device = "cuda" if torch.cuda.is_available() else "cpu"
found = {}

def compare(name, data, kind):
    blocks = torch.from_numpy(data).to(device)
    expected = torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32))
    # the interpreter cuts bfloat16 off where the compiler rounds: `test_kernel_compiles` looks for the rounding
    for dtype in (torch.float32, torch.float16, torch.bfloat16)[: 3 if device == "cuda" else 2]:
        target = torch.full((len(data), expected.shape[1] + 64), torch.nan, dtype=dtype, device=device).flatten()
        matrix = target[: expected.numel()].view(expected.shape)
        block_kernels.expand_into(matrix, blocks, kind)
        bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        if not torch.equal(matrix.cpu().view(bits), expected.to(dtype).view(bits)):
            found[name] = f"{dtype}: {(matrix.cpu() != expected.to(dtype)).sum()} numbers differ"
        if not target[expected.numel() :].isnan().all():
            found[name] = f"{dtype}: written behind the matrix"
    found.setdefault(name, "equal")

for kind in BLOCK_TYPES:
    compare(kind.name, random_blocks(kind, 7, 9), kind)
    if kind.name in HALVES and kind.name != "F16":
        compare(f"{kind.name}, extreme", extreme_blocks(kind), kind)
if len(sys.argv) > 1:
    kinds = set()
    for tensor in gguf.GGUFReader(Path(sys.argv[1])).tensors:
        if tensor.tensor_type not in kinds and len(tensor.shape) == 2:
            kinds.add(tensor.tensor_type)
            compare(f"file: {tensor.tensor_type.name}", np.array(tensor.data[-11:]).view(np.uint8), tensor.tensor_type)
print(json.dumps(found))
"""

COMPILE = """
import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from candletune.gguf import block_kernels

found = {}
for kind, kernel in block_kernels.KERNELS.items():
    faults = []
    for chip, element in ((80, "bf16"), (90, "bf16"), (90, "fp32")):
        signature = {"data": "*u8", "target": f"*{element}", "count": "i32", "OCTETS": "constexpr"}
        aligned = {(place,): [["tt.divisibility", 16]] for place in (0, 1)}
        source = ASTSource(kernel, signature, {"OCTETS": block_kernels.OCTETS}, aligned)
        made = triton.compile(source, target=GPUTarget("cuda", chip, 32), options=block_kernels.OPTIONS)
        code = made.asm["ptx"]
        faults += [f"{word} on {chip}" for word in ("fma.", ".ftz") if word in code]
        if element == "bf16" and "cvt.rn.bf16" not in code:
            faults.append(f"not rounded to nearest on {chip}")
        if element == "bf16" and (made.metadata.shared or "st.global.v4" not in code):
            faults.append(f"octets are not written by one thread each on {chip}")
    found[kind.name] = ", ".join(faults) or "compiled"
print(json.dumps(found))
"""
PACKED = [kind.name for kind in BLOCK_TYPES if kind.name not in ("F32", "F16", "BF16")]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(COMPARE, tmp_path_factory.mktemp("blocks"), **interpreted_without_gpu())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("compile")
    return run(COMPILE, folder, TRITON_CACHE_DIR=str(folder))


@pytest.mark.parametrize("name", [kind.name for kind in BLOCK_TYPES])
def test_kernel_equals_the_reference(compared: dict[str, Any], name: str) -> None:
    assert compared[name] == "equal", compared[name]


@pytest.mark.parametrize("name", PACKED)
def test_extreme_scales_and_codes_stay_equal_in_a_kernel(compared: dict[str, Any], name: str) -> None:
    assert compared[f"{name}, extreme"] == "equal", compared[f"{name}, extreme"]


def test_kernels_expand_a_real_file(smollm2: Path, tmp_path: Path) -> None:
    found = run(COMPARE, tmp_path, str(smollm2), **interpreted_without_gpu())
    real = {name: result for name, result in found.items() if name.startswith("file: ")}
    assert {"file: Q4_1"} <= real.keys()
    assert set(real.values()) == {"equal"}, real


@pytest.mark.parametrize("name", PACKED)
def test_kernel_compiles_without_fused_sums(compiled: dict[str, Any], name: str) -> None:
    """The interpreter fuses nothing and rounds bfloat16 otherwise, so the machine's code is looked at."""
    assert compiled[name] == "compiled", compiled[name]


def test_every_packed_type_has_a_kernel(compiled: dict[str, Any]) -> None:
    assert sorted(compiled) == sorted(PACKED)
