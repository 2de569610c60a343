r"""Every file operation that systems disagree on: atomic, on disk when it returns, patient on Windows.

What Windows does differently, and what is done about it:

- It syncs only handles that may write, and no folders: a file is synced through a handle that may, a folder not at all.
- It neither replaces nor removes a file somebody has open: both are tried again for a few seconds, since readers are
  quick, and then refused with a sentence.
- It turns `\n` into `\r\n` in text and opens in a legacy encoding: text is written as UTF-8 bytes.
- A path beyond 260 characters needs a `\\?\` in front: it gets one.

Elsewhere in the package no module makes such a call by itself (ruff's TID251 and tests/windows/test_one_way.py).
"""

import errno
import json
import ntpath
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from filelock import BaseFileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from candletune import disk as system
from candletune.disk import Facts
from candletune.errors import InputError

T = TypeVar("T")
WINDOWS: bool = os.name == "nt"
PATIENCE: float = 5.0
"""Seconds for which a file that another program has open is tried again (Windows)."""
_LONGEST: Final = 240
r"""Characters a Windows path may have without `\\?\`: 260, or 248 for a folder, less a little."""
_LEFT: Final = 24 * 3600.0
"""Seconds without a write after which nobody is at a temporary file any more."""
_SWEPT: Final[set[Path]] = set()
_EXTENDED: Final = "\\\\?\\"
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


def extended(path: str) -> str:
    r"""An absolute Windows path in the form that has no length limit: `\\?\C:\...` or `\\?\UNC\server\share\...`."""
    if path.startswith(_EXTENDED):
        return path
    whole = ntpath.normpath(path)
    return f"{_EXTENDED}UNC{whole[1:]}" if whole.startswith("\\\\") else _EXTENDED + whole


def long_path(path: Path, room: int = 0) -> Path:
    """The same path in a form that Windows opens however long it is; unchanged elsewhere and where it is short.

    Args:
        path: a file or folder.
        room: characters that names below it will add.
    """
    if not WINDOWS or _EXTENDED in str(path):  # no other part of a path can hold a question mark
        return path
    whole = os.path.abspath(path)
    return path if len(whole) + room < _LONGEST else Path(extended(whole))


def make_folder(path: Path) -> None:
    """Make a folder and those above it; on disk when it returns.

    Raises:
        InputError: the system refuses; names the folder.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not system.disk.is_folder(long_path(folder))]
        for folder in reversed(missing):
            system.disk.make_folder(long_path(folder))
            sync_folder(folder.parent)
    except OSError as error:  # no permission, a file in the way, a read-only or full disk, /proc
        raise InputError(f"{path}: cannot be made a folder ({error.strerror}); choose another one") from None


def sync(handle: int) -> None:
    """Wait until what was written through `handle` is on disk; Windows wants a handle that may write."""
    system.disk.sync(handle)


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on disk."""
    handle = os.open(long_path(path), os.O_RDWR | _BINARY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until a folder's entries are on disk; Windows keeps them in order by itself and refuses to be asked."""
    if WINDOWS:
        return
    try:
        handle = system.disk.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that one may write into and not list
        return
    try:
        sync(handle)
    except OSError as error:  # some network and FUSE file systems have no such call
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        close(handle)


def move(source: Path, target: Path) -> None:
    """Rename over `target`, atomically; on disk when it returns.

    Raises:
        InputError: the system refuses, on Windows also because another program has one of the two open.
    """
    _patiently(lambda: os.replace(long_path(source), long_path(target)), target, "replaced")
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file; a missing one is fine.

    Raises:
        InputError: the system refuses, on Windows also because another program has it open.
    """
    _patiently(lambda: long_path(path).unlink(missing_ok=True), path, "removed")


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it; a missing one is fine.

    Raises:
        InputError: the system refuses, on Windows also because another program has a file in it open.
    """
    if path.exists():
        _patiently(lambda: shutil.rmtree(long_path(path)), path, "removed")


def copy(source: Path, target: Path, *, check: Callable[[Path], None] = lambda _: None) -> None:
    """Copy a file's bytes, atomically; `check` looks at the copy before it has its name, and may refuse it."""
    with atomic_path(target) as temporary:
        shutil.copyfile(long_path(source), temporary)
        check(temporary)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed over it, else removed.

    Raises:
        InputError: `target` cannot be written.
    """
    make_folder(target.parent)
    _sweep(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=long_path(target.parent))
    except OSError as error:  # of the temporary file, whose name tells nobody anything
        text = (
            f"{target}: cannot be written ({error.strerror}); check its folder's permissions and the room on its disk"
        )
        raise InputError(text) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        sync_file(temporary)
        temporary.chmod(0o644)
        move(temporary, target)
    except OSError as error:
        if error.filename is None:  # a full disk, told by a write, does not say which file it was
            error.filename = str(target)
        raise
    finally:
        remove(temporary)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success it takes `target`'s place, else it is removed.

    Raises:
        InputError: `target` cannot be replaced; it is as it was.
    """
    make_folder(target.parent)
    _sweep(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=long_path(target.parent)))
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                sync_file(path)
        temporary.chmod(0o755)
        _take_place(temporary, target)
    finally:
        shutil.rmtree(long_path(temporary), ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty folder where the system keeps temporary files; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="candletune-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _sweep(target: Path) -> None:
    """Remove what killed processes left of earlier attempts at `target`, once in a process."""
    if target in _SWEPT:
        return
    _SWEPT.add(target)
    for path in long_path(target.parent, room=len(target.name) + 20).iterdir():
        if path.name.startswith(f".{target.name}.") and path.name.endswith(".tmp"):
            with suppress(OSError, InputError):
                newest = max(part.stat().st_mtime for part in (path, *path.rglob("*")))
                if time.time() - newest > _LEFT:
                    (remove_folder if path.is_dir() else remove)(path)


def _take_place(new: Path, target: Path) -> None:
    """A folder cannot be renamed over another one: the older steps aside first, and back when that fails."""
    if not target.exists():
        move(new, target)
        return
    old = target.with_name(f".{target.name}.old")
    remove_folder(old)
    move(target, old)
    try:
        move(new, target)
    except BaseException:
        move(old, target)
        raise
    shutil.rmtree(long_path(old), ignore_errors=True)


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file piece by piece, for one that `atomic_path` yielded."""
    with long_path(path).open("wb") as stream:
        stream.writelines(pieces)


def write_bytes(target: Path, data: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def try_to_write(folder: Path) -> None:
    """Make a file in a folder and take it away again, since only that tells whether one may; raises `OSError`."""
    with tempfile.TemporaryFile(dir=folder):
        return


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically, its line ends as they are on every system."""
    write_bytes(target, text.encode())


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused, since no JSON reader agrees on it."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is an `InputError` that names it."""
    try:
        return json.loads(_patiently(lambda: long_path(path).read_text(encoding="utf-8"), path, "read"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage that writes it first") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, thousands of digits, nested without end
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not valid JSON ({reason}); delete it and run its stage again") from None


def open_append(path: Path) -> int:
    """A handle to read, append to and cut a file; made when missing, on disk then. The caller gives it to `close`."""
    flags = os.O_RDWR | os.O_APPEND
    try:
        return system.disk.open(long_path(path), flags)
    except FileNotFoundError:
        handle = system.disk.open(long_path(path), flags | os.O_CREAT)
    try:
        sync(handle)
        sync_folder(path.parent)  # without it a power cut takes the file, whatever was synced into it
    except BaseException:
        close(handle)
        raise
    return handle


def close(handle: int) -> None:
    """Give a handle back; what was to be on disk is there already, so a refusal means nothing."""
    with suppress(OSError):
        system.disk.close(handle)


def facts(handle: int) -> Facts:
    """Size and identity of an open file."""
    return system.disk.facts(handle)


def read_at(handle: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on; fewer at the file's end only."""
    parts = []
    while size and (part := system.disk.read(handle, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def append(handle: int, data: bytes) -> None:
    """Write at the file's end, on disk when it returns.

    Raises:
        OSError: the disk did not take all; what it took may still be there.
    """
    while data:
        taken = system.disk.write(handle, data)
        if taken <= 0:
            raise OSError(errno.ENOSPC, "nothing was taken; is the disk full?")
        data = data[taken:]
    sync(handle)


def truncate(handle: int, size: int) -> None:
    """Cut a file opened by `open_append` to `size` bytes, on disk when it returns."""
    system.disk.truncate(handle, size)
    sync(handle)


@contextmanager
def locked(lock: BaseFileLock) -> Iterator[None]:
    """Hold a lock that several processes share."""
    system.disk.lock(lock)
    try:
        yield
    finally:
        with suppress(OSError):  # what was done under it is done
            system.disk.unlock(lock)


def ends_mid_line(handle: int) -> bool:
    """Whether a file that is open for appending ends in half a line; True where nobody can tell."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return False
    try:  # the handle itself may only write
        reader = os.open(f"/dev/fd/{handle}", os.O_RDONLY)
    except OSError:
        return True
    try:
        os.lseek(reader, -1, os.SEEK_END)
        return os.read(reader, 1) != b"\n"
    finally:
        os.close(reader)


def append_line(path: Path, text: str) -> None:
    """Append a line for which a lost one after a power cut is no harm (metrics, logs): not synced."""
    make_folder(path.parent)
    handle = system.disk.open(long_path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        data = text.encode() + b"\n"
        while data:
            data = data[system.disk.write(handle, data) :]
    finally:
        close(handle)


def _patiently(action: Callable[[], T], path: Path, verb: str) -> T:
    """Windows refuses while somebody has the file open, which passes; anywhere else a refusal is one at once."""
    again = Retrying(
        retry=retry_if_exception_type(PermissionError),
        wait=wait_exponential(0.02, max=0.5),
        stop=stop_after_delay(PATIENCE if WINDOWS else 0),
        reraise=True,
    )
    try:
        return again(action)
    except PermissionError as error:
        remedy = "close the program that has it open" if WINDOWS else "check its permissions"
        raise InputError(f"{path}: cannot be {verb} ({error.strerror}); {remedy} and try again") from None
