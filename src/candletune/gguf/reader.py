"""Reads a GGUF's values with bounds, a window of the file at a time.

Not by mmap: a file that is cut short while it is mapped ends the process with SIGBUS, and one that is read does not.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

MAX_NAME = 65_535
"""Bytes of a key, as llama.cpp reads them."""
MAX_STRING = 4 * 2**20
"""Bytes of one text; a chat template has some thousand."""
MAX_TEXT = 8 * 2**20
"""Bytes of all texts outside arrays."""
MAX_METADATA = 64 * 2**20
"""Bytes before the tensors' data. Gemma 3, with 262,144 tokens and 514,906 merges, has about 16 MiB."""
MAX_STRINGS = 2 * 2**20
"""Texts in all arrays of a file; Gemma 3 has 777,000."""
SHORT = 4_096
"""Entries up to which an array of numbers is read at once."""
WINDOW = 2**18
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
STRUCTS = {kind: struct.Struct(f"<{code}") for kind, code in SCALARS.items()}
LENGTH = STRUCTS[10]


class Reader:
    """A place in a file, and what lies behind it; ValueError where the file ends or a bound is passed."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size, self.place = stream, min(size, MAX_METADATA), 0
        self.whole = size
        self._window, self._start = b"", 0
        self._text = self._strings = 0

    def take(self, count: int) -> bytes:
        """The next bytes; at most a text's."""
        begin = self.place - self._start
        if not 0 <= begin <= len(self._window) - count:
            self._check(count)
            self.stream.seek(self.place)
            self._window, self._start, begin = self.stream.read(max(count, WINDOW)), self.place, 0
            if len(self._window) < count:
                raise ValueError("it ends too early")
        self._check(count)
        self.place += count
        return self._window[begin : begin + count]

    def skip(self, count: int) -> None:
        """Go on behind so many bytes."""
        self._check(count)
        self.place += count

    def _check(self, count: int) -> None:
        if count > self.size - self.place:
            if self.size < self.whole:
                raise ValueError(f"more than {MAX_METADATA >> 20} MiB before the tensors")
            raise ValueError("it ends too early")

    def number(self, kind: int) -> Any:
        """A scalar by its GGUF type."""
        form = STRUCTS[kind]
        return form.unpack(self.take(form.size))[0]

    def text(self, limit: int) -> str:
        """A text of at most so many bytes."""
        length = self.number(10)
        if length > limit:
            raise ValueError(f"a string of {length} bytes")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, path: Path) -> Any:
        """A value of a metadata entry."""
        if kind == STRING:
            text = self.text(MAX_STRING)
            self._text += len(text)
            if self._text > MAX_TEXT:
                raise ValueError(f"more than {MAX_TEXT >> 20} MiB of text")
            return text
        if kind == ARRAY:
            return self._array(path)
        if kind not in SCALARS:
            raise ValueError(f"unknown value type {kind}")
        return self.number(kind)

    def _array(self, path: Path) -> "Array":
        kind, count = self.number(4), self.number(10)
        if kind == STRING:
            self._strings += count
            if self._strings > MAX_STRINGS:
                raise ValueError(f"an array of {count} entries")
            found = Array(path, self.place, kind, count, None)
            for _ in range(count):
                self.skip(LENGTH.unpack(self.take(8))[0])
            return found
        if kind not in SCALARS:
            raise ValueError(f"an array of type {kind}")
        size = STRUCTS[kind].size
        if count * size > MAX_METADATA:
            raise ValueError(f"an array of {count} entries")
        if count > SHORT:
            found = Array(path, self.place, kind, count, None)
            self.skip(count * size)
            return found
        place, data = self.place, self.take(count * size)
        return Array(path, place, kind, count, struct.unpack(f"<{count}{SCALARS[kind]}", data))


@dataclass(frozen=True, slots=True, eq=False)
class Array(Sequence[Any]):
    """An array of the metadata. A long one stays in the file, and is read each time it is gone through.

    Attributes:
        path: the file.
        place: of its first entry.
        kind: GGUF type of the entries.
        length: how many.
        held: the entries of a short one.
    """

    path: Path
    place: int
    kind: int
    length: int
    held: tuple[Any, ...] | None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        yield from self._entries()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """An entry; a long array is read for it, so go through it once instead."""
        return self._entries()[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((self.path, self.place, self.length))

    def _entries(self) -> tuple[Any, ...]:
        if self.held is not None:
            return self.held
        with self.path.open("rb") as stream:
            reader = Reader(stream, self.path.stat().st_size)
            reader.place = self.place
            if self.kind == STRING:
                return tuple(reader.text(MAX_METADATA) for _ in range(self.length))
            data = reader.take(self.length * STRUCTS[self.kind].size)
        return struct.unpack(f"<{self.length}{SCALARS[self.kind]}", data)
