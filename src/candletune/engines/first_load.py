"""The first load of an adapter's file happens in a process of its own: what crashes llama.cpp there is a refusal here.

The header check refuses all that is known to crash it. What is not known yet ends the child. A file that was good once
over a base, by the hashes of both, isn't tried again with the same llama.cpp.
"""

import os
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import llama_cpp

from candletune.engines.first_load_child import GOOD, NO_MEMORY, REFUSED
from candletune.errors import InputError, OutOfMemory
from candletune.files import append_line
from candletune.gguf.header import Header
from candletune.hashes import sha256_bytes, sha256_path

CHILD = Path(__file__).with_name("first_load_child.py")
SECONDS = 60.0
"""Longest time for a small base; a base's bytes may have to come from a disk first."""
BYTES_A_SECOND = 50e6
_NO_CARD = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}
"""The child computes on the CPU: the card's memory is the model's that serves."""


class FirstLoads:
    """Tries adapters over a base, each once.

    Args:
        base: the base's header.
        memory: a file of what was good; none: it is known while this object lives.
        threads: of the child; 0: all.
    """

    def __init__(self, base: Header, memory: Path | None, threads: int) -> None:
        self._base, self._memory = base, memory
        self._threads = threads or os.cpu_count() or 1
        self._good: set[str] = set()

    def check(self, adapter: Path) -> str:
        """Try a file unless it was good before.

        Returns:
            Its hash.

        Raises:
            InputError: llama.cpp refuses it, ends over it, or does not get done with it.
            OutOfMemory: there was none for trying.
        """
        digest = sha256_path(adapter)
        key = sha256_bytes(f"{digest}:{self._base_digest}:{llama_cpp.__version__}".encode())
        if key not in self._good and key not in self._remembered():
            self._try(adapter)
            self._remember(key)
        self._good.add(key)
        return digest

    @cached_property
    def _base_digest(self) -> str:
        """What decides whether an adapter fits: everything before the weights, and how many bytes they have."""
        with self._base.path.open("rb") as stream:
            head = stream.read(self._base.data_start)
        return sha256_bytes(head + str(self._base.path.stat().st_size).encode())

    def _remembered(self) -> set[str]:
        try:
            return set() if self._memory is None else set(self._memory.read_text(encoding="ascii").split())
        except (OSError, ValueError):  # not there yet, or not ours
            return set()

    def _remember(self, key: str) -> None:
        if self._memory is None:
            return
        try:
            append_line(self._memory, key)
        except (OSError, InputError):  # a home that can't be written to: it costs the time again
            return

    def _try(self, adapter: Path) -> None:
        limit = SECONDS + self._base.path.stat().st_size / BYTES_A_SECOND
        # -P: this folder has an http.py, which is not the one that others import.
        command = [sys.executable, "-P", str(CHILD), str(self._base.path), str(adapter), str(self._threads)]
        try:
            done = subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit,
                env=os.environ | _NO_CARD,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{adapter}: llama.cpp did not get done with it in {limit:.0f} s (tried in a process of its own); "
                "export it again"
            ) from None
        why = " ".join(done.stdout.decode("utf-8", "replace").split())[:200]
        if done.returncode == REFUSED:
            raise InputError(f"{adapter}: llama.cpp refuses the adapter ({why}); export it again")
        if done.returncode == NO_MEMORY:
            raise OutOfMemory(
                f"{adapter}: no memory to try it in a process of its own ({why}); close other programs, or use a "
                "smaller base.gguf"
            )
        if done.returncode != GOOD:
            raise InputError(
                f"{adapter}: it ends llama.cpp ({_ending(done.returncode)}; tried in a process of its own); don't use "
                "it, export it again"
            )


def _ending(code: int) -> str:
    """How a process ended, in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
