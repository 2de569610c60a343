"""Lines that come in from outside: read up to a limit, parsed without surprises, and never without an answer."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from candletune.decide import Answer, Prediction
from candletune.errors import CandletuneError, InputError

MAX_LINE: Final = 1 << 20
"""Bytes of one context on standard input; HTTP bodies have a lower bound of their own."""
MAX_ERROR: Final = 1000
"""Characters of an error in an answer or a journal row."""


class ByteLines(Protocol):
    """What is read from: a binary stream."""

    def readline(self, size: int = -1, /) -> bytes:
        """One line, or its first `size` bytes."""
        ...


def read_lines(stream: ByteLines) -> Iterator[bytes]:
    """The lines that hold something, each with its first `MAX_LINE` bytes and one more where it is longer."""
    while line := stream.readline(MAX_LINE + 1):
        rest = line
        while not rest.endswith(b"\n") and len(rest) > MAX_LINE:
            rest = stream.readline(MAX_LINE + 1)
        if line.strip():
            yield line


def parse_context(text: str | bytes) -> Mapping[str, Any]:
    """A trader's JSON object, in UTF-8; what stands under a key is checked when the context is cleaned.

    Raises:
        InputError: it is longer than `MAX_LINE`, no UTF-8, no JSON, or no object.
    """
    if len(text) > MAX_LINE:
        raise InputError(f"context: longer than {MAX_LINE} bytes; send one JSON object, with fewer headlines")
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        value = json.loads(plain)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:120]
        raise InputError(f"context: not valid JSON ({reason}); send one JSON object") from None
    if not isinstance(value, Mapping):
        raise InputError(f"context: expected a JSON object, got {type(value).__name__}")
    return value


def positive_number(value: Any) -> float | None:
    """The number, when it is one above zero that a float can hold."""
    try:
        usable = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value > 0
    except OverflowError:  # an integer beyond every float
        return None
    return float(value) if usable else None


def told(error: BaseException | str) -> str:
    """An error in one line that any encoder takes; one that no code foresaw says so."""
    known = isinstance(error, CandletuneError | str)
    text = " ".join((str(error) if known else f"internal error: {type(error).__name__}: {error}").split())
    return text[:MAX_ERROR].encode("utf-8", "replace").decode()


def error_answer(error: BaseException | str) -> Answer:
    """The Signal contract's object for a request that could not be answered."""
    return Prediction("error", "", error=told(error)).answer()
