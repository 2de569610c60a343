"""The bounded reader: hostile sizes end in an error, never in a crash or a huge allocation."""

import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from candletune.artifacts import ModelManifest
from candletune.decide.adapters import adapter_facts
from candletune.errors import InputError
from candletune.gguf.header import read_header
from fuzz.gguf_cases import File, Pair, base, lora


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(pairs: bytes = b"", tensors: bytes = b"", *, n_pairs: int = 0, n_tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + pairs + tensors


def tensor(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sized = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + sized + struct.pack("<IQ", kind, offset)


MODEL = text(b"general.type") + struct.pack("<I", 8) + text(b"model")
PAIR = text(b"general.type") + struct.pack("<I", 8) + text(b"adapter")


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    array = text(b"list") + struct.pack("<IIQ", 9, 4, 2) + struct.pack("<2I", 7, 9)
    entry = tensor(b"w", (4, 2))
    data = gguf(MODEL + array, entry, n_pairs=2, n_tensors=1)
    path.write_bytes(data + b"\0" * (-len(data) % 32) + b"\0" * 32)
    header = read_header(path)
    assert header.fields == {"general.type": "model", "list": [7, 9]}
    assert not header.is_adapter
    assert header.manifest == ModelManifest()
    assert [(t.name, t.sizes, t.nbytes) for t in header.tensors] == [("w", (4, 2), 32)]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ends too early"),
    "not a gguf": (b"PK\x03\x04" + b"\0" * 64, "does not begin with GGUF"),
    "version 1": (gguf(version=1), "version 1"),
    "a billion tensors": (gguf(n_tensors=10**9), "1000000000 tensors"),
    "2^63 pairs": (gguf(n_pairs=2**63), "metadata entries"),
    "key of 2^60 bytes": (gguf(struct.pack("<Q", 2**60), n_pairs=1), "a string of"),
    "key longer than the file": (gguf(struct.pack("<Q", 1000) + b"x", n_pairs=1), "ends too early"),
    "string of 2^40 bytes": (gguf(text(b"k") + struct.pack("<IQ", 8, 2**40), n_pairs=1), "a string of"),
    "array of 2^50": (gguf(text(b"k") + struct.pack("<IIQ", 9, 0, 2**50), n_pairs=1), "an array of"),
    "array past the end": (gguf(text(b"k") + struct.pack("<IIQ", 9, 10, 10**6), n_pairs=1), "ends too early"),
    "arrays of arrays": (gguf(text(b"k") + struct.pack("<IIQ", 9, 9, 3), n_pairs=1), "an array of type 9"),
    "unknown value type": (gguf(text(b"k") + struct.pack("<I", 77), n_pairs=1), "unknown value type 77"),
    "key twice": (gguf(PAIR + PAIR, n_pairs=2), "occurs twice"),
    "no dimensions": (gguf(b"", text(b"w") + struct.pack("<I", 0), n_tensors=1), "has 0 dimensions"),
    "a zero size": (gguf(b"", tensor(b"w", (0, 4)), n_tensors=1), "has sizes"),
    "2^62 elements": (gguf(b"", tensor(b"w", (2**31, 2**31)), n_tensors=1), "has sizes"),
    "unknown tensor type": (gguf(b"", tensor(b"w", (4,), kind=999), n_tensors=1), "999"),
    "data past the end": (gguf(b"", tensor(b"w", (4096,)), n_tensors=1), "lies outside the file"),
    "offset unaligned": (gguf(b"", tensor(b"w", (1,), offset=3), n_tensors=1) + b"\0" * 99, "lies outside the file"),
    "tensor twice": (gguf(b"", tensor(b"w", (1,)) * 2, n_tensors=2) + b"\0" * 99, "occurs twice"),
    "a key without a name": (gguf(text(b"") + struct.pack("<II", 4, 0), n_pairs=1), "without a name"),
    "a tensor name of 64 bytes": (gguf(b"", tensor(b"x" * 64, (1,)), n_tensors=1) + b"\0" * 99, "a string of 64"),
    "2^30 bytes of alignment": (
        gguf(text(b"general.alignment") + struct.pack("<II", 4, 2**30), n_pairs=1),
        "alignment",
    ),
    "alignment as a byte": (gguf(text(b"general.alignment") + struct.pack("<IB", 0, 32), n_pairs=1), "not uint32"),
    "weights of I32": (gguf(b"", tensor(b"w", (2, 2), kind=26), n_tensors=1) + b"\0" * 99, "type 26"),
    "alignment 0": (gguf(text(b"general.alignment") + struct.pack("<II", 4, 0), n_pairs=1), "alignment 0"),
}


def _with(**changes: Pair) -> File:
    file = lora()
    file.pairs = [changes.get(pair.key.rpartition(".")[2], pair) for pair in file.pairs]
    return file


def _tensor(number: int, **changes: Any) -> File:
    file = lora()
    for name, value in changes.items():
        setattr(file.tensors[number], name, value)
    return file


def _vocabulary(key: str, kind: int, entries: list[Any]) -> File:
    file = base()
    next(pair for pair in file.pairs if pair.key == f"tokenizer.ggml.{key}").value = (kind, entries)
    return file


# What passed the checks before, and ended llama.cpp: GGML_ASSERT, a jump to nothing, a read past the end.
FATAL: dict[str, tuple[File, str]] = {
    "adapter.type as a number": (_with(type=Pair("adapter.type", 4, 1)), "adapter.type is not text"),
    "alpha as a double": (_with(alpha=Pair("adapter.lora.alpha", 12, 16.0)), "alpha is not float32"),
    "alpha as text": (_with(alpha=Pair("adapter.lora.alpha", 8, "16")), "alpha is not float32"),
    "alpha not a number": (_with(alpha=Pair("adapter.lora.alpha", 6, float("nan"))), "alpha is nan"),
    "the architecture as a list": (
        _with(architecture=Pair("general.architecture", 9, (4, [1]))),
        "architecture is not text",
    ),
    "tokens of another kind": (
        _with(name=Pair("adapter.alora.invocation_tokens", 9, (0, [1]))),
        "not an array of uint32",
    ),
    "a LoRA of I32": (_tensor(0, kind=26), "type 26"),
    "a LoRA of F64": (_tensor(0, kind=28, data=bytes(512)), "type 28"),
    "tensors over one another": (_tensor(1, offset=32), "lies over another one"),
    "half a pair": (_tensor(1, name="blk.7.attn_q.weight.lora_b"), "lacks its other half"),
    "another rank": (_tensor(1, sizes=(2, 16), data=bytes(128)), "is of rank 4"),
    "a vector": (_tensor(0, sizes=(64,)), "no matrix"),
    "what is no part of it": (_tensor(0, name="blk.0.attn_q.weight"), "no part of a LoRA"),
    "scores of bytes": (_vocabulary("scores", 0, [0] * 64), "scores is not an array of float32"),
    "scores for half of the tokens": (_vocabulary("scores", 6, [0.0] * 32), "32 entries for 64 tokens"),
    "tokens of numbers": (_vocabulary("tokens", 4, [1] * 64), "tokens is not an array of text"),
}


@pytest.mark.parametrize("case", FATAL)
def test_what_would_end_llama_cpp_is_refused(case: str, tmp_path: Path) -> None:
    file, reason = FATAL[case]
    path = tmp_path / "a.gguf"
    path.write_bytes(file.written())
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert reason in str(caught.value)


MANIFESTS = {
    "nesting": "[" * 100_000,
    "nesting that json reads": "[" * 100 + "]" * 100,
    "an integer of 4,000 digits": f'{{"decision_ids": [{"9" * 4_000}]}}',
    "NaN": '{"calibration": NaN}',
    "half a character": '{"base": "\\ud800"}',
    "a hash as a number": '{"template_sha256": 7}',
    "a hash of two lines": '{"template_sha256": "1\\n2"}',
    "a name of 5,000": f'{{"base": "{"x" * 5_000}"}}',
    "a megabyte": f'{{"policy": "{"x" * 2**20}"}}',
    "an end before time": '{"train_end": "0001-01-01T00:00:00+14:00"}',
    "shares beyond every float": f'{{"class_prior": [1, 1, {"9" * 19}], "natural_prior": [1e308, 1e308, 1e308]}}',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_hostile_manifest_is_a_one_line_refusal(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(_with(manifest=Pair("candletune.manifest", 8, MANIFESTS[case])).written())
    with pytest.raises(InputError) as caught:
        adapter_facts(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_big_arrays_cost_nothing(tmp_path: Path) -> None:
    """120 MB of bytes cost 1.1 GB once, and 60 MB of texts 20 seconds."""
    head = text(b"k") + struct.pack("<IIQ", 9, 0, 40 * 2**20)
    inside, beyond, texts = (tmp_path / f"{name}.gguf" for name in ("inside", "beyond", "texts"))
    for path, pairs, size in (
        (inside, head, 50 * 2**20),
        (beyond, text(b"k") + struct.pack("<IIQ", 9, 0, 120 * 10**6), 130 * 10**6),
        (texts, text(b"k") + struct.pack("<IIQ", 9, 8, 7_500_000), 70 * 10**6),
    ):
        with path.open("wb") as stream:
            stream.write(gguf(pairs, n_pairs=1))
            stream.truncate(size)  # sparse
    tracemalloc.start()
    header = read_header(inside)
    for path, words in ((beyond, "an array of 120000000"), (texts, "an array of 7500000")):
        with pytest.raises(InputError, match=words):
            read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    assert len(header.fields["k"]) == 40 * 2**20


def test_a_long_list_is_read_from_the_file_when_it_is_asked_for(tmp_path: Path) -> None:
    file, words = lora(), [f"word {number}" for number in range(10_000)]
    file.pairs += [Pair("a", 9, (8, words)), Pair("b", 9, (6, [0.5] * 10_000)), Pair("c", 4, 7)]
    (path := tmp_path / "a.gguf").write_bytes(file.written())
    fields = read_header(path).fields
    assert (fields["a"], fields["a"][17], fields["b"], fields["c"]) == (words, "word 17", [0.5] * 10_000, 7)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.gguf")
    with pytest.raises(InputError, match="not a file"):
        read_header(tmp_path / "a.gguf")


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_line_errors(case: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[case]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"candletune export"):
        read_header(tmp_path / "none.gguf")


@pytest.mark.parametrize("mutate", ["cut", "flip"])
def test_random_damage_never_crashes(mutate: str, tmp_path: Path) -> None:
    entry = tensor(b"w", (4, 2))
    whole = gguf(MODEL, entry, n_pairs=1, n_tensors=1)
    whole += b"\0" * (-len(whole) % 32) + b"\0" * 32
    rng = random.Random(1)  # noqa: S311
    path = tmp_path / "a.gguf"
    damage: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda data: data[: rng.randrange(len(data))],
        "flip": lambda data: bytes(b ^ (rng.random() < 0.05) * rng.randrange(256) for b in data),
    }
    outcomes = set()
    for _ in range(300):
        path.write_bytes(damage[mutate](whole))
        try:
            read_header(path)
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes
