"""The system calls below every file that is appended to, and nothing else.

They are methods of one object, so that a test can put another one in its place: one that fails a call, takes less than
all, or loses the power between two of them (tests/live/faulty_disk.py). What is built on them is in `candletune.files`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock

_BINARY: int = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the system says of an open file.

    Attributes:
        size: in bytes.
        identity: tells it from every other file that exists at the same time.
    """

    size: int
    identity: tuple[int, int]


class Disk:
    """The calls, each as the system has it; every one may raise `OSError`."""

    def is_folder(self, path: Path) -> bool:
        """Whether a folder is there."""
        return path.is_dir()

    def make_folder(self, path: Path) -> None:
        """One folder; its own folder is there. It may be there already."""
        path.mkdir(exist_ok=True)

    def open(self, path: Path, flags: int) -> int:
        """A handle; `flags` are `os.open`'s."""
        return os.open(path, flags | _BINARY, 0o644)

    def close(self, handle: int) -> None:
        """Give a handle back."""
        os.close(handle)

    def facts(self, handle: int) -> Facts:
        """Of an open file."""
        status = os.fstat(handle)
        return Facts(status.st_size, (status.st_dev, status.st_ino))

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes; fewer are no sign of the end, none are."""
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)

    def write(self, handle: int, data: bytes) -> int:
        """How many of the bytes were taken."""
        return os.write(handle, data)

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        """Wait until a file's bytes, or a folder's entries, are on disk."""
        os.fsync(handle)

    def lock(self, lock: BaseFileLock) -> None:
        """Wait until the lock is had."""
        lock.acquire(poll_interval=0.002)

    def unlock(self, lock: BaseFileLock) -> None:
        """Give it back."""
        lock.release()


disk = Disk()
"""The one in use."""


def use(other: Disk) -> Disk:
    """Put another one in its place; the one before it."""
    global disk
    before, disk = disk, other
    return before
