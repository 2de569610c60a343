"""The Triton kernels compile, and compute what the plain functions compute (in Triton's interpreter without a GPU)."""

from typing import Any

import pytest

from triton_scripts import interpreted_without_gpu, run

COMPARE = """
import json
import torch
from candletune.training.fast import ops as plain
from candletune.training.fast.ops import kernel_ops

fused = kernel_ops()
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
found = {}

def draw(*shape):
    return torch.randn(*shape, device=device)

def compare(name, first, second):
    try:
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
        found.setdefault(name, "equal")
    except AssertionError as error:
        found[name] = str(error)

for rows, width in ((3, 64), (5, 96)):
    hidden, weight = draw(rows, width), draw(width)
    grad, residual = draw(rows, width), draw(rows, width)
    compare("rms_norm", fused.rms_norm(hidden, weight, 1e-5), plain.rms_norm(hidden, weight, 1e-5))
    compare("rms_norm_backward", fused.rms_norm_backward(grad, hidden, weight, 1e-5, residual),
            plain.rms_norm_backward(grad, hidden, weight, 1e-5, residual))
    gate_up, grad = draw(rows, 2 * width), draw(rows, width)
    compare("swiglu", fused.swiglu(gate_up), plain.swiglu(gate_up))
    compare("swiglu_backward", fused.swiglu_backward(grad, gate_up.clone()), plain.swiglu_backward(grad, gate_up))
    seed = torch.tensor(-987654321, dtype=torch.int32, device=device)
    zeros = [ops.dropout(hidden, 0.25, seed, 7) == 0 for ops in (fused, plain)]
    compare("dropout", zeros[0], zeros[1])
    compare("dropout", fused.dropout(hidden, 0.25, seed, 7), plain.dropout(hidden, 0.25, seed, 7))
    compare("add_dropout", fused.add_dropout(residual.clone(), hidden, 0.25, seed, 7),
            plain.add_dropout(residual, hidden, 0.25, seed, 7))
for heads, kv_heads in ((8, 2), (6, 0), (0, 4), (4, 4)):
    cos, sin, qkv = draw(5, 16), draw(5, 16), draw(5, (heads + 2 * kv_heads) * 16)
    cos[:, 8:], sin[:, 8:] = cos[:, :8], sin[:, :8]
    for one, other in zip(fused.split_rope(qkv, heads, kv_heads, cos, sin),
                          plain.split_rope(qkv, heads, kv_heads, cos, sin)):
        compare("split_rope", one, other)
    parts = (draw(5, heads, 16), draw(5, kv_heads, 16), draw(5, kv_heads, 16))
    compare("join_rope", fused.join_rope(*parts, cos, sin), plain.join_rope(*parts, cos, sin))
print(json.dumps(found))
"""

COMPILE = """
import json
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from candletune.training.fast import kernels

sizes = {"BLOCK": 1024, "HALF": 64, "GROUP": 8, "JOIN": True, "ADD": True}
kinds = {"seed": "*i32", "eps": "fp32", "rate": "fp32", "factor": "fp32"}
whole = ("width", "stride", "heads", "kv_heads", "start")
found = {}
for name in ("_rms_norm", "_rms_norm_backward", "_swiglu", "_swiglu_backward", "_rope", "_dropout"):
    kernel = getattr(kernels, name)
    fixed = {key: sizes[key] for key in kernel.arg_names if key in sizes}
    signature = {
        key: "constexpr" if key in sizes else kinds.get(key, "i32" if key in whole else "*bf16")
        for key in kernel.arg_names
    }
    try:
        for chip in (80, 90):
            triton.compile(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", chip, 32))
        found[name] = "compiled"
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(COMPARE, tmp_path_factory.mktemp("compare"), **interpreted_without_gpu())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("compile")
    return run(COMPILE, folder, TRITON_CACHE_DIR=str(folder))


OPS = (
    "rms_norm",
    "rms_norm_backward",
    "swiglu",
    "swiglu_backward",
    "split_rope",
    "join_rope",
    "dropout",
    "add_dropout",
)


def test_every_op_has_its_comparison() -> None:
    from candletune.training.fast.ops import Ops

    assert set(OPS) == set(Ops.__dataclass_fields__)


@pytest.mark.parametrize("name", OPS)
def test_kernel_equals_its_plain_function(compared: dict[str, Any], name: str) -> None:
    assert compared[name] == "equal", compared[name]


@pytest.mark.parametrize(
    "name", ["_rms_norm", "_rms_norm_backward", "_swiglu", "_swiglu_backward", "_rope", "_dropout"]
)
def test_kernel_compiles(compiled: dict[str, Any], name: str) -> None:
    """The interpreter accepts more than the compiler: compile for Ampere and Hopper, which needs no GPU."""
    assert compiled[name] == "compiled", compiled[name]
