"""Read a GGUF's header with bounds, before anything else opens the file.

The files may come from anywhere. Every length is checked against what the file can hold before memory is taken, so a
hostile or truncated file ends in a one-line error. Format: the GGUF specification, version 3, little endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import math
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

from candletune.artifacts import ModelManifest
from candletune.errors import InputError
from candletune.gguf.manifest import KEY, read_manifest
from candletune.gguf.metadata import PLAIN_TYPES
from candletune.gguf.reader import MAX_NAME, Reader
from candletune.gguf.schema import check_adapter_file, check_key, check_vocabulary, check_whole_model

MAGIC = b"GGUF"
MAX_PAIRS = 4_096
MAX_TENSORS = 65_536
MAX_TENSOR_NAME = 63
"""Bytes, as llama.cpp reads them."""
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 2**20
MANIFEST_KEY = KEY


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
        return read_manifest(self.path, self.fields.get(MANIFEST_KEY))

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA."""
        return self.fields.get("general.type") == "adapter"

    @property
    def weights(self) -> int:
        """How many numbers its tensors hold."""
        return sum(math.prod(entry.sizes) for entry in self.tensors)

    @property
    def is_float32(self) -> bool:
        """Whether all its weights are stored in 32 bits."""
        return self.fields.get("general.file_type") == PLAIN_TYPES["F32"]

    @property
    def is_quantized(self) -> bool:
        """Whether most of its weights are stored in less than 16 bits."""
        return self.fields.get("general.file_type") not in PLAIN_TYPES.values()


def read_header(path: Path) -> Header:
    """Metadata and tensor descriptions of a GGUF file; its data is not read.

    Raises:
        InputError: missing, not a GGUF of version 2 or 3, truncated, with sizes no file of its length can have, or with
            something in it that would end llama.cpp.
    """
    try:
        state = path.stat()
        if not S_ISREG(state.st_mode):  # a pipe would wait for somebody who writes
            raise InputError(f"{path}: not a file; give the path of a GGUF")
        header = _read(path, state.st_size, state.st_mtime_ns, state.st_ino)
        return replace(header, fields=dict(header.fields))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `candletune export` or correct the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, struct.error, KeyError) as error:
        raise InputError(f"{path}: not a usable GGUF file ({error}); export or download it again") from None


@lru_cache(maxsize=8)
def _read(path: Path, size: int, mtime_ns: int, inode: int) -> Header:
    """Cached by what changes when a file is rewritten: a vocabulary of 262,144 tokens takes half a second to pass."""
    with path.open("rb") as stream:
        return _parse(path, Reader(stream, size))


def _parse(path: Path, reader: Reader) -> Header:
    if reader.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number(4)
    if version not in (2, 3):
        raise ValueError(f"version {version}, expected 2 or 3")
    tensors, pairs = reader.number(10), reader.number(10)
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        raise ValueError(f"{tensors} tensors and {pairs} metadata entries")
    fields: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text(MAX_NAME)
        if key in fields:
            raise ValueError(f"metadata key {key[:80]!r} occurs twice")
        kind = reader.number(4)
        fields[key] = reader.value(kind, path)
        check_key(key, kind, fields[key])
    entries = [_entry(reader) for _ in range(tensors)]
    start = _check_data(reader, entries, fields.get("general.alignment", 32))
    if fields.get("general.type") == "adapter":
        check_adapter_file(fields, entries, reader.place)
    else:
        check_whole_model(entries)
        check_vocabulary(fields)
    return Header(path, fields, tuple(entries), start)


def _entry(reader: Reader) -> TensorEntry:
    name = reader.text(MAX_TENSOR_NAME)
    dimensions = reader.number(4)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
    sizes = tuple(reader.number(10) for _ in range(dimensions))
    if 0 in sizes or math.prod(sizes) > 2**40:
        raise ValueError(f"tensor {name!r} has sizes {sizes}")
    return TensorEntry(name, sizes, reader.number(4), reader.number(10))


def _check_data(reader: Reader, entries: list[TensorEntry], alignment: int) -> int:
    """Where the data section begins."""
    if alignment < 1 or alignment & (alignment - 1) or alignment > MAX_ALIGNMENT:
        raise ValueError(f"alignment {alignment}")
    start = -(-reader.place // alignment) * alignment
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a tensor name occurs twice")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        size = entry.nbytes
        if entry.offset % alignment or start + entry.offset + size > reader.whole:
            raise ValueError(f"tensor {entry.name!r} lies outside the file; it was cut short")
        if entry.offset < end:
            raise ValueError(f"tensor {entry.name!r} lies over another one")
        end = entry.offset + size
    return start
