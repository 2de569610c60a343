"""A disk in memory, below `candletune.files`, that fails the call it is told to, and can lose the power.

What was written is on it at once (a process sees it); what survives a power cut is what was synced: a file's bytes by a
sync of the file, its name by a sync of its folder.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from candletune import disk as system
from candletune.disk import Disk, Facts

Tree = dict[str, "File | None"]
"""What a folder's entries are by path; None is a folder."""


class PowerCut(BaseException):
    """Nothing after it happens, not even what stands in a `finally`."""


@dataclass(eq=False)
class File:
    """Bytes as processes see them, and as they are on the disk."""

    data: bytes = b""
    durable: bytes = b""

    def after_a_cut(self) -> list[bytes]:
        """What may be found of it: only what was synced, all, a part, or room that was never filled."""
        found = [self.durable]
        if self.data != self.durable:
            found.append(self.data)
            if self.data.startswith(self.durable):
                new = self.data[len(self.durable) :]
                found += [self.durable + new[: len(new) // 2], self.durable + new[:-1], self.durable + b"\0" * len(new)]
        return found


@dataclass
class MemoryDisk(Disk):
    """See the module.

    Attributes:
        fail_at: the number of the call, from now, that does not go well; None: all do.
        how: `error`; `short` (a write or read takes less); `full` (a write takes less, and later ones nothing); `cut`
            (the power goes before the call).
        calls: the names of the calls since `fail_at` was set.
    """

    tree: Tree = field(default_factory=lambda: {"/": None})
    durable_tree: Tree = field(default_factory=lambda: {"/": None})
    fail_at: int | None = None
    how: str = "error"
    calls: list[str] = field(default_factory=list)
    handles: dict[int, str] = field(default_factory=dict)
    opened: dict[int, File | None] = field(default_factory=dict)
    full: bool = False
    dark: bool = False

    def arm(self, fail_at: int | None, how: str = "error") -> None:
        """Fail a call from now on."""
        self.fail_at, self.how, self.calls, self.full = fail_at, how, [], False

    def outcomes(self) -> "Iterator[MemoryDisk]":
        """The disks that may be found after a power cut now."""
        for entries in (self.durable_tree, self.tree):
            # A name below a folder that is gone is gone with it.
            tree = {
                path: file for path, file in entries.items() if all(p.as_posix() in entries for p in Path(path).parents)
            }
            files = [path for path, file in tree.items() if file is not None]
            ways = max((len(tree[path].after_a_cut()) for path in files), default=1)  # type: ignore[union-attr]
            for way in range(ways):
                left: Tree = {path: None for path, file in tree.items() if file is None}
                for path in files:
                    file = tree[path]
                    assert file is not None
                    contents = file.after_a_cut()
                    data = contents[min(way, len(contents) - 1)]
                    left[path] = File(data, data)
                yield MemoryDisk(dict(left), dict(left))
            if self.tree == self.durable_tree:
                return

    def _call(self, name: str) -> bool:
        """Count a call; whether it is to take less than all."""
        if self.dark:
            raise PowerCut
        number = len(self.calls)
        self.calls.append(name)
        if self.full and name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number != self.fail_at:
            return False
        if self.how == "cut":
            self.dark = True
            raise PowerCut
        if self.how == "error" or name not in ("write", "read"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.full = self.how == "full" and name == "write"
        return True

    def is_folder(self, path: Path) -> bool:
        self._call("is_folder")
        return self.tree.get(path.as_posix(), File()) is None

    def make_folder(self, path: Path) -> None:
        self._call("make_folder")
        self.tree.setdefault(path.as_posix(), None)

    def open(self, path: Path, flags: int) -> int:
        self._call("open")
        name = path.as_posix()
        if name not in self.tree:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            self.tree[name] = File()
        handle = max(self.handles, default=2) + 1
        self.handles[handle], self.opened[handle] = name, self.tree[name]
        return handle

    def close(self, handle: int) -> None:
        del self.handles[handle], self.opened[handle]
        self._call("close")

    def _file(self, handle: int) -> File:
        file = self.opened[handle]
        assert file is not None
        return file

    def facts(self, handle: int) -> Facts:
        self._call("facts")
        return Facts(len(self._file(handle).data), (1, id(self._file(handle))))

    def read(self, handle: int, size: int, offset: int) -> bytes:
        if self._call("read"):
            size = max(1, size // 2)
        return self._file(handle).data[offset : offset + size]

    def write(self, handle: int, data: bytes) -> int:
        if self._call("write"):
            data = data[: len(data) // 2]
        self._file(handle).data += data
        return len(data)

    def truncate(self, handle: int, size: int) -> None:
        self._call("truncate")
        self._file(handle).data = self._file(handle).data[:size]

    def sync(self, handle: int) -> None:
        self._call("sync")
        file, name = self.opened[handle], self.handles[handle]
        if file is not None:
            file.durable = file.data
            return
        inside = {path for path in {*self.tree, *self.durable_tree} if path.rpartition("/")[0] == name.rstrip("/")}
        for path in inside - {"/"}:
            self.durable_tree.pop(path, None)
            if path in self.tree:
                self.durable_tree[path] = self.tree[path]

    def lock(self, lock: BaseFileLock) -> None:
        self._call("lock")

    def unlock(self, lock: BaseFileLock) -> None:
        self._call("unlock")


@contextmanager
def in_use(disk: Any) -> Iterator[None]:
    """Everything below `candletune.files` goes to it."""
    before = system.use(disk)
    try:
        yield
    finally:
        system.use(before)
