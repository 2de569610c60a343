"""llama.cpp's real server for tests: started, killed, started again. `make llama-server` builds it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

import build_llama_server
from candletune.hashes import sha256_path

SECONDS = 60


def program() -> Path:
    """The server's program: `CANDLETUNE_LLAMA_SERVER`, or the built one; skips where there is none."""
    named = os.environ.get("CANDLETUNE_LLAMA_SERVER")
    path = Path(named) if named else build_llama_server.binary()
    if not path.is_file():
        pytest.skip("llama.cpp's server is not built: `make llama-server` does it, once (about ten minutes)")
    return path


def with_hash(adapter: Path, folder: Path) -> Path:
    """A copy whose name holds the file's hash, as the engine wants it on a server."""
    copy = folder / f"{adapter.stem}-{sha256_path(adapter)[:8]}.gguf"
    if not copy.exists():
        shutil.copy(adapter, copy)
    return copy


class RealServer:
    """A `llama-server` on a free port of this machine; a context manager.

    Args:
        base: GGUF it serves.
        adapters: LoRA GGUFs it has, in this order.
        slots: prompts at a time.
        context: tokens a slot.
        more: further arguments.
    """

    def __init__(
        self,
        base: Path,
        adapters: Sequence[Path] = (),
        *,
        slots: int = 4,
        context: int = 2048,
        more: Sequence[str] = (),
    ) -> None:
        self.program = program()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.base, self.adapters, self.more = base, list(adapters), list(more)
        self.slots, self.context = slots, context
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; `wait`: until it answers."""
        loras = [part for adapter in self.adapters for part in ("--lora", str(adapter))]
        self.process = subprocess.Popen(
            [
                str(self.program),
                *("-m", str(self.base), "--port", str(self.port), "-t", "1", "-np", str(self.slots)),
                *("-c", str(self.context * self.slots), "--cache-ram", "0", "--no-webui", *loras, *self.more),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + SECONDS
        while wait and not self._answers():
            assert self.process.poll() is None, "the server ended by itself"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> "RealServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
