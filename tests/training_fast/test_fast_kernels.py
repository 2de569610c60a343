"""The Triton kernels compile, and compute what the plain functions compute (in Triton's interpreter without a GPU)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = """
import torch
from candletune.training.fast import ops as plain
from candletune.training.fast.ops import kernel_ops

fused = kernel_ops()
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

def draw(*shape):
    return torch.randn(*shape, device=device)

def same(first, second):
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)

for rows, width in ((3, 64), (5, 96)):
    hidden, weight = draw(rows, width), draw(width)
    same(fused.norm(hidden, weight, 1e-5), plain.norm(hidden, weight, 1e-5))
    grad, residual = draw(rows, width), draw(rows, width)
    same(fused.norm_backward(grad, hidden, weight, 1e-5, residual),
         plain.norm_backward(grad, hidden, weight, 1e-5, residual))
    both, grad = draw(rows, 2 * width), draw(rows, width)
    same(fused.gate(both), plain.gate(both))
    same(fused.gate_backward(grad, both.clone()), plain.gate_backward(grad, both))
    seed = torch.tensor(-987654321, dtype=torch.int32, device=device)
    assert torch.equal(fused.dropped(hidden, 0.25, seed, 7) == 0, plain.dropped(hidden, 0.25, seed, 7) == 0)
    same(fused.dropped(hidden, 0.25, seed, 7), plain.dropped(hidden, 0.25, seed, 7))
    same(fused.add_dropped(residual.clone(), hidden, 0.25, seed, 7), plain.add_dropped(residual, hidden, 0.25, seed, 7))
for heads, kv_heads in ((8, 2), (6, 0), (0, 4), (4, 4)):
    cos, sin, flat = draw(5, 16), draw(5, 16), draw(5, (heads + 2 * kv_heads) * 16)
    cos[:, 8:], sin[:, 8:] = cos[:, :8], sin[:, :8]
    for one, other in zip(fused.split_turned(flat, heads, kv_heads, cos, sin),
                          plain.split_turned(flat, heads, kv_heads, cos, sin)):
        same(one, other)
    parts = (draw(5, heads, 16), draw(5, kv_heads, 16), draw(5, kv_heads, 16))
    same(fused.join_turned(*parts, cos, sin), plain.join_turned(*parts, cos, sin))
print("agree")
"""


def test_kernels_agree_with_plain_functions(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (pip install 'candletune[gpu]')")
    import torch

    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    script = tmp_path / "check.py"
    script.write_text(CHECK)
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "agree", result.stderr[-2000:]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from candletune.training.fast import kernels as kernels

sizes = {"BLOCK": 1024, "HALF": 64, "GROUP": 8, "JOIN": True, "ADD": True}
kinds = {"seed": "*i32", "eps": "fp32", "rate": "fp32", "factor": "fp32"}
whole = ("width", "stride", "heads", "kv_heads", "start")
for name in ("_norm", "_norm_backward", "_gate", "_gate_backward", "_turn", "_drop"):
    kernel = getattr(kernels, name)
    fixed = {key: sizes[key] for key in kernel.arg_names if key in sizes}
    signature = {
        key: "constexpr" if key in sizes else kinds.get(key, "i32" if key in whole else "*bf16")
        for key in kernel.arg_names
    }
    for chip in (80, 90):
        triton.compile(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", chip, 32))
print("compiled")
"""


def test_kernels_compile_for_gpus(tmp_path: Path) -> None:
    """The interpreter accepts more than the compiler: compile for Ampere and Hopper, which needs no GPU."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install 'candletune[gpu]')")
    script = tmp_path / "compile.py"
    script.write_text(COMPILE)
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "compiled", result.stderr[-2000:]
