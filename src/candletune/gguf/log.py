"""What llama.cpp says: quiet by default, its last error at hand when a call fails."""

import ctypes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_ERROR = 4
_ALLOCATION = ("failed to allocate", "unable to allocate", "out of memory", "cudamalloc failed", "alloc_tensor_range")


class LlamaLog:
    """The last lines llama.cpp logged."""

    def __init__(self) -> None:
        self.lines: deque[tuple[int, str]] = deque(maxlen=200)

    def last_error(self) -> str:
        """Its last error line, else its last line, as one short line."""
        errors = [text for level, text in self.lines if level == _ERROR] or [text for _, text in self.lines]
        return " ".join(errors[-1].split())[:160] if errors else "llama.cpp gave no reason"

    def allocation_failed(self) -> bool:
        """Whether any of the lines says that memory could not be had."""
        return any(sign in text.lower() for _, text in self.lines for sign in _ALLOCATION)


@cache
def _shared() -> tuple[LlamaLog, Any]:
    import llama_cpp

    log = LlamaLog()

    def keep(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        log.lines.append((level, text.decode("utf-8", "replace")))

    return log, llama_cpp.llama_log_callback(keep)


@contextmanager
def captured() -> Iterator[LlamaLog]:
    """Collect llama.cpp's log for the block; it stays silent on the terminal, before and after too."""
    import llama_cpp

    log, callback = _shared()
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    log.lines.clear()
    yield log
