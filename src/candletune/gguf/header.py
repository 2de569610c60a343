"""Read a GGUF's header with bounds, before anything else opens the file.

The files may come from anywhere. Every length is checked against what the file can hold before memory is taken, so a
hostile or truncated file ends in a one-line error. Format: the GGUF specification, version 3, little endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import json
import math
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from candletune.artifacts import ModelManifest
from candletune.errors import InputError

MAGIC = b"GGUF"
MAX_PAIRS = 4_096
MAX_TENSORS = 65_536
MAX_NAME = 65_535
MAX_STRING = 16 * 2**20
MAX_ARRAY = 4 * 2**20
MAX_DIMENSIONS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
MANIFEST_KEY = "candletune.manifest"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor's description: name, sizes (fastest first), ggml type number, offset in the data section."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of its data.

        Raises:
            ValueError: the type is unknown or a row is no multiple of the type's block.
        """
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(self.kind)]
        if self.sizes[0] % block:
            raise ValueError(f"row of {self.sizes[0]} is no multiple of {block}")
        return math.prod(self.sizes) // block * size


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF says about itself.

    Attributes:
        path: the file.
        fields: metadata by key, as the file has it.
        tensors: descriptions in the file's order.
        data_start: where the data section begins; a tensor's offset counts from there.
    """

    path: Path
    fields: dict[str, Any]
    tensors: tuple[TensorEntry, ...]
    data_start: int

    @property
    def manifest(self) -> ModelManifest:
        """candletune's own record of how the file came to be; empty for a file of others.

        Raises:
            InputError: it is damaged.
        """
        text = self.fields.get(MANIFEST_KEY)
        if not isinstance(text, str):
            return ModelManifest()
        try:
            recorded = json.loads(text)
        except ValueError:
            raise InputError(f"{self.path}: {MANIFEST_KEY} is not JSON; export the adapter again") from None
        try:
            return ModelManifest.model_validate(recorded if isinstance(recorded, dict) else {}, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{self.path}: {MANIFEST_KEY}: {key}: {first['msg']}; export the adapter again") from None

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA."""
        return self.fields.get("general.type") == "adapter"


class _Reader:
    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size = stream, size

    def take(self, count: int) -> bytes:
        if count > self.size - self.stream.tell():
            raise ValueError("it ends too early")
        return self.stream.read(count)

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def text(self, limit: int) -> str:
        length = self.number("Q")
        if length > limit:
            raise ValueError(f"a string of {length} bytes")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text(MAX_STRING)
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise ValueError(f"unknown value type {kind}")
        return self.number(_SCALARS[kind])

    def array(self) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if count > MAX_ARRAY:
            raise ValueError(f"an array of {count} entries")
        if kind == _STRING:
            return [self.text(MAX_STRING) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"an array of type {kind}")
        code = _SCALARS[kind]
        return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(code))))


def read_header(path: Path) -> Header:
    """Metadata and tensor descriptions of a GGUF file; its data is not read.

    Raises:
        InputError: missing, not a GGUF of version 2 or 3, truncated, or with sizes no file of its length can have.
    """
    try:
        state = path.stat()
        header = _read(path, state.st_size, state.st_mtime_ns, state.st_ino)
        return replace(header, fields=dict(header.fields))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `candletune export` or correct the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, struct.error, KeyError) as error:
        raise InputError(f"{path}: not a usable GGUF file ({error}); export or download it again") from None


@lru_cache(maxsize=16)
def _read(path: Path, size: int, mtime_ns: int, inode: int) -> Header:
    """Cached by what changes when a file is rewritten: a vocabulary of 131,072 tokens takes a second to read."""
    with path.open("rb") as stream:
        return _parse(path, _Reader(stream, size))


def _parse(path: Path, reader: _Reader) -> Header:
    if reader.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"version {version}, expected 2 or 3")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        raise ValueError(f"{tensors} tensors and {pairs} metadata entries")
    fields: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text(MAX_NAME)
        if key in fields:
            raise ValueError(f"metadata key {key!r} occurs twice")
        fields[key] = reader.value(reader.number("I"))
    entries = [_entry(reader) for _ in range(tensors)]
    start = _check_data(reader, entries, fields.get("general.alignment", 32))
    return Header(path, fields, tuple(entries), start)


def _entry(reader: _Reader) -> TensorEntry:
    name = reader.text(MAX_NAME)
    dimensions = reader.number("I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
    sizes = tuple(reader.number("Q") for _ in range(dimensions))
    if 0 in sizes or math.prod(sizes) > 2**40:
        raise ValueError(f"tensor {name!r} has sizes {sizes}")
    return TensorEntry(name, sizes, reader.number("I"), reader.number("Q"))


def _check_data(reader: _Reader, entries: list[TensorEntry], alignment: Any) -> int:
    """Where the data section begins."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"alignment {alignment}")
    start = -(-reader.stream.tell() // alignment) * alignment
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a tensor name occurs twice")
    for entry in entries:
        if entry.offset % alignment or start + entry.offset + entry.nbytes > reader.size:
            raise ValueError(f"tensor {entry.name!r} lies outside the file; it was cut short")
    return start
