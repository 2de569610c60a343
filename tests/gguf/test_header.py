"""The bounded reader: hostile sizes end in an error, never in a crash or a huge allocation."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from candletune.artifacts import ModelManifest
from candletune.errors import InputError
from candletune.gguf.header import read_header


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(pairs: bytes = b"", tensors: bytes = b"", *, n_pairs: int = 0, n_tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + pairs + tensors


def tensor(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sized = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + sized + struct.pack("<IQ", kind, offset)


PAIR = text(b"general.type") + struct.pack("<I", 8) + text(b"adapter")


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    array = text(b"list") + struct.pack("<IIQ", 9, 4, 2) + struct.pack("<2I", 7, 9)
    entry = tensor(b"w", (4, 2))
    data = gguf(PAIR + array, entry, n_pairs=2, n_tensors=1)
    path.write_bytes(data + b"\0" * (-len(data) % 32) + b"\0" * 32)
    header = read_header(path)
    assert header.fields == {"general.type": "adapter", "list": [7, 9]}
    assert header.is_adapter
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
    "alignment 0": (gguf(text(b"general.alignment") + struct.pack("<II", 4, 0), n_pairs=1), "alignment 0"),
}


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
    whole = gguf(PAIR, entry, n_pairs=1, n_tensors=1)
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
