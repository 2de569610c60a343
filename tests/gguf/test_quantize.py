"""A base is quantized tensor by tensor, with llama.cpp's choice of types and its very bits, and no second copy."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import torch

from candletune.config_tables import ServeType
from candletune.console import SilentReporter
from candletune.errors import InputError, UsageError
from candletune.gguf.header import read_header
from candletune.gguf.metadata import PLAIN_TYPES
from candletune.gguf.model import write_model
from candletune.gguf.quantize import quantize, quantized, tensor_types
from candletune.model_shape import ModelShape, read_shape
from converters import tensors
from gguf import GGMLQuantizationType
from random_models import COMPLETE, random_base

pytestmark = pytest.mark.llamacpp

EMBEDDING = "token_embd.weight"
WIDE = {"hidden_size": 256, "intermediate_size": 512}
"""Rows of whole blocks of 256; the other models' widths, 64 and 96, make llama.cpp fall back to other types."""


def written(base: Path, target: Path, number_format: str) -> Path:
    write_model(base, target, number_format=number_format, name="x", manifest={}, reporter=SilentReporter())
    return target


def llama_cpps(base: Path, folder: Path, name: str, source: str = "F32") -> Path:
    """What `llama_model_quantize` makes of the base in a plain format."""
    plain, target = folder / f"plain.{source}.gguf", folder / f"theirs.{name}.gguf"
    if not plain.exists():
        written(base, plain, source)
    quantize(plain, target, name)
    return target


def assert_same_file(ours: Path, theirs: Path) -> None:
    assert tensors(ours) == tensors(theirs)
    left, right = read_header(ours), read_header(theirs)
    assert {e.name: e.sizes for e in left.tensors} == {e.name: e.sizes for e in right.tensors}
    assert left.fields == right.fields


def kinds_of(path: Path) -> Counter[str]:
    return Counter(GGMLQuantizationType(entry.kind).name for entry in read_header(path).tensors)


@pytest.mark.parametrize("name", COMPLETE)
def test_q4_k_m_is_llama_cpps(name: str, texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """Widths of 64 and 96, which no k-quant divides: the types that llama.cpp falls back to, too."""
    base = random_base(name, tmp_path / "base", texts[0])
    ours = written(base, tmp_path / "ours.gguf", "Q4_K_M")
    assert_same_file(ours, llama_cpps(base, tmp_path, "Q4_K_M"))
    assert {"Q5_0", "Q8_0"} <= set(kinds_of(ours))


@pytest.mark.parametrize("name", ["llama", "llama, tied", "qwen2"])
def test_the_mixture_of_wide_models(name: str, texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """Q6_K for the output and for half of the layers' values and down projections, as llama.cpp chooses them."""
    base = random_base(name, tmp_path / "base", texts[0], num_hidden_layers=9, **WIDE)
    ours = written(base, tmp_path / "ours.gguf", "Q4_K_M")
    assert_same_file(ours, llama_cpps(base, tmp_path, "Q4_K_M"))
    found = {entry.name: GGMLQuantizationType(entry.kind).name for entry in read_header(ours).tensors}
    down = [found[f"blk.{layer}.ffn_down.weight"] for layer in range(9)]
    assert set(down) == {"Q4_K", "Q6_K"}
    assert found["output.weight" if name != "llama, tied" else EMBEDDING] == "Q6_K"


@pytest.mark.parametrize(
    "kind",
    [kind for kind in get_args(get_args(ServeType)[0]) + get_args(get_args(ServeType)[1]) if kind not in PLAIN_TYPES],
)
def test_every_type_that_can_be_trained_over(
    kind: str, texts: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("types")
    base = random_base("mistral", folder / "base", texts[0], **WIDE)
    assert_same_file(written(base, folder / "ours.gguf", kind), llama_cpps(base, folder, kind))


@pytest.mark.parametrize(("stored", "source"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_from_sixteen_bits(
    stored: torch.dtype, source: str, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """A checkpoint in 16 bits, as they are published: its numbers are widened exactly, as llama.cpp does."""
    base = random_base("llama", tmp_path / "base", texts[0], stored=stored, **WIDE)
    assert_same_file(written(base, tmp_path / "ours.gguf", "Q4_K_M"), llama_cpps(base, tmp_path, "Q4_K_M", source))


def test_an_8b_models_mixture_is_asked_in_moments() -> None:
    """The published Q4_K_M of such a model is 4.9 GB: Q4_K but for the output and half of two matrices a layer."""
    shape = ModelShape(4096, 12288, 36, 32, 8, 128, 131072, 32768, 1e-5, 1e8, None, tied=False)
    parts: dict[str, tuple[int, ...]] = {
        "attn_q": (4096, 4096),
        "attn_k": (1024, 4096),
        "attn_v": (1024, 4096),
        "attn_output": (4096, 4096),
    }
    parts |= {"ffn_gate": (12288, 4096), "ffn_up": (12288, 4096), "ffn_down": (4096, 12288), "attn_norm": (4096,)}
    named: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (131072, 4096)),
        ("output.weight", (131072, 4096)),
    ]
    named += [(f"blk.{n}.{part}.weight", sizes) for n in range(36) for part, sizes in parts.items()]
    found = {name: kind.name for name, kind in tensor_types(shape, named, "Q4_K_M").items()}
    assert found["output.weight"] == "Q6_K"
    assert found[EMBEDDING] == "Q4_K"
    assert Counter(found.values()) == {"Q4_K": 36 * 7 + 1 - 36, "Q6_K": 36 + 1, "F32": 36}


def test_a_weight_that_is_no_number_is_refused() -> None:
    matrix = torch.zeros(4, 256)
    matrix[2, 3] = float("nan")
    with pytest.raises(InputError, match="not a number"):
        quantized(matrix, GGMLQuantizationType.Q4_K)


def test_threads_and_parts_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    matrix = torch.randn(37, 512)
    whole = quantized(matrix, GGMLQuantizationType.Q6_K)
    monkeypatch.setattr("candletune.gguf.quantize.WEIGHTS_AT_ONCE", 1500)
    assert (quantized(matrix, GGMLQuantizationType.Q6_K) == whole).all()


def test_types_that_cannot_be_made(texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    base = random_base("llama", tmp_path / "base", texts[0], **WIDE)
    shape = read_shape(base)
    with pytest.raises(UsageError, match="no type 'Q9'"):
        tensor_types(shape, [], "Q9")
    with pytest.raises(InputError, match="IQ2_XXS"):
        written(base, tmp_path / "x.gguf", "IQ2_XXS")
    assert not (tmp_path / "x.gguf").exists()


def test_no_copy_lies_on_disk_meanwhile(texts: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """The most that ever lies in the folder is the file itself: watched at each write."""
    base = random_base("llama", tmp_path / "base", texts[0], **WIDE)
    code = """
import sys
from pathlib import Path
from candletune.config_tables import ServeType
from candletune.console import SilentReporter
from candletune.gguf import model
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
most, stored = 0, model._stored
def watched(*args):
    global most
    most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    return stored(*args)
model._stored = watched
target = folder / "base.gguf"
model.write_model(base, target, number_format="Q4_K_M", name="x", manifest={}, reporter=SilentReporter())
assert 0 < most <= target.stat().st_size, (most, target.stat().st_size)
"""
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-c", code, str(base), str(out)], check=True)
