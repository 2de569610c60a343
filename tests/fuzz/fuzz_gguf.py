"""GGUF headers: adapters and bases, as bytes and as entries; see `fuzz.gguf_cases`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from candletune.decide.adapters import adapter_facts
from candletune.gguf.header import read_header
from fuzz.driver import Check, Target
from fuzz.gguf_cases import make


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    """Each case is a file of its own name for a while, so that nothing is found in a cache."""
    last = folder / "0.gguf"
    number = 0

    def check(case: bytes) -> str:
        nonlocal last, number
        last.unlink(missing_ok=True)
        number += 1
        last = folder / f"{number}.gguf"
        last.write_bytes(case)
        header = read_header(last)
        for value in header.fields.values():
            if not isinstance(value, str | int | float | bool):
                assert len(list(value)) == len(value)
        if not header.is_adapter:
            return "base"
        adapter_facts(last)
        return "adapter"

    yield check
    last.unlink(missing_ok=True)


TARGET = Target(make, opened)
