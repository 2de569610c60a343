r"""Windows' rules about files, imposed on this system: what would fail there fails here, in the same way.

No substitute for a Windows machine, but every rule below is one that code written elsewhere breaks. A file counts as
open when any handle or memory map of this process holds it, so native code (Polars, safetensors) is seen too.
"""

import builtins
import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import candletune.files as files

MAX_PATH = 260
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
ABSENT = frozenset(("fcntl", "grp", "pwd", "resource", "termios"))
EXTENDED = "\\\\?\\"
WRITING = os.O_WRONLY | os.O_RDWR


class BrokenRule(AssertionError):
    """Code relied on a default that Windows has otherwise."""


def real(path: Any) -> Any:
    r"""The path as this system knows it, `\\?\` taken off; `FileNotFoundError` for one that is too long without."""
    if isinstance(path, int):
        return path
    text = os.fspath(path)
    if not isinstance(text, str):
        return path
    if EXTENDED in text:
        return text.rpartition(EXTENDED)[2].replace("\\", "/")
    if len(str(Path.cwd() / text)) >= MAX_PATH:
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", text)
    return text


def check_name(path: str) -> None:
    """`OSError` for a name that Windows has no file for."""
    name = Path(path).name
    bad = set(name) & set('<>:"|?*\\') or name[-1:] in (".", " ") or name.partition(".")[0].lower() in RESERVED
    if bad and name not in ("", ".", "..") and path != os.devnull:
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", path)


def held(path: str) -> bool:
    """Whether this process has the file, or one in the folder, open or mapped."""
    target = os.path.realpath(path)
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(os.readlink(entry))  # noqa: PTH115
        except OSError:
            continue
    names |= {line.split(maxsplit=5)[5].strip() for line in io_open("/proc/self/maps") if line.count("/")}
    return any(name == target or name.startswith(f"{target}/") for name in names)


io_open: Callable[..., Any] = io.open


def _refuse_held(*paths: str) -> None:
    for path in paths:
        if os.path.lexists(path) and held(path):
            raise PermissionError(errno.EACCES, "The process cannot access the file: another process uses it", path)


class Rules:
    """Patches for one test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def impose(self) -> None:
        """All of them."""
        self.patch.setattr(files, "WINDOWS", True)
        self.patch.setattr(files, "PATIENCE", 0.3)
        self._names()
        self._moves()
        self._handles()
        self._text()
        self._absent()

    def console(self) -> tuple[io.BytesIO, io.BytesIO]:
        """Redirected standard output and error in cp1252, as Python opens them on a Western Windows."""
        out, err = io.BytesIO(), io.BytesIO()
        self.patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252", newline="\n", write_through=True))
        stream = io.TextIOWrapper(err, encoding="cp1252", errors="backslashreplace", write_through=True)
        self.patch.setattr(sys, "stderr", stream)
        return out, err

    def _names(self) -> None:
        for name in ("stat", "lstat", "listdir", "scandir", "chmod", "utime", "access"):
            plain = getattr(os, name)
            self.patch.setattr(os, name, lambda path=".", *rest, plain=plain, **key: plain(real(path), *rest, **key))
        make = os.mkdir

        def mkdir(path: Any, *rest: Any, **key: Any) -> None:
            check_name(real(path))
            make(real(path), *rest, **key)

        self.patch.setattr(os, "mkdir", mkdir)

    def _moves(self) -> None:
        replace, unlink, rmdir = os.replace, os.unlink, os.rmdir

        def over(source: Any, target: Any) -> None:
            here, there = real(source), real(target)
            check_name(there)
            _refuse_held(here, there)
            if Path(there).is_dir():
                raise PermissionError(errno.EACCES, "Access is denied", there)
            if Path(there).exists() and not Path(there).stat().st_mode & 0o200:
                raise PermissionError(errno.EACCES, "Access is denied: read-only", there)
            replace(here, there)

        def rename(source: Any, target: Any) -> None:
            if os.path.lexists(real(target)):
                raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
            over(source, target)

        def delete(path: Any, plain: Callable[[Any], None]) -> None:
            if os.path.lexists(real(path)):
                _refuse_held(real(path))
            plain(real(path))

        self.patch.setattr(os, "replace", over)
        self.patch.setattr(os, "rename", rename)
        for name in ("unlink", "remove"):
            self.patch.setattr(os, name, lambda path, **_: delete(path, unlink))
        self.patch.setattr(os, "rmdir", lambda path, **_: delete(path, rmdir))
        self.patch.setattr(shutil, "_use_fd_functions", False)

    def _handles(self) -> None:
        import fcntl

        open_, fsync = os.open, os.fsync

        def opened(path: Any, flags: int, *rest: Any, **key: Any) -> int:
            if Path(real(path)).is_dir():
                raise PermissionError(errno.EACCES, "Permission denied", path)
            if flags & os.O_CREAT:
                check_name(real(path))
            return open_(real(path), flags, *rest, **key)

        def synced(handle: int) -> None:
            if not fcntl.fcntl(handle, fcntl.F_GETFL) & WRITING:
                raise OSError(errno.EBADF, "Bad file descriptor")
            fsync(handle)

        self.patch.setattr(os, "open", opened)
        self.patch.setattr(os, "fsync", synced)

    def _text(self) -> None:
        """cp1252 and carriage returns where a text file is opened without saying otherwise."""

        def checked(file: Any, mode: str = "r", *rest: Any, **key: Any) -> Any:
            values = dict(zip(("buffering", "encoding", "errors", "newline"), rest, strict=False)) | key
            if "b" not in mode:
                encoding = values.get("encoding")
                if encoding in (None, "locale") and not isinstance(file, int) and _ours(sys._getframe(1)):
                    raise BrokenRule(f"{file}: opened as text without an encoding, which is cp1252 on Windows")
                if any(letter in mode for letter in "wax+") and values.get("newline") is None:
                    values["newline"] = "\r\n"
            if any(letter in mode for letter in "wax") and not isinstance(file, int):
                check_name(str(real(file)))
            return io_open(real(file), mode, **values)

        self.patch.setattr(io, "open", checked)
        self.patch.setattr(builtins, "open", checked)

    def _absent(self) -> None:
        for name in ("O_DIRECTORY", "O_NOFOLLOW", "fork", "getuid", "geteuid", "statvfs", "fchmod", "killpg"):
            self.patch.delattr(os, name, raising=False)
        for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM"):
            self.patch.delattr(signal, name, raising=False)
        plain = builtins.__import__

        def imported(name: str, globals_: Any = None, *rest: Any, **key: Any) -> Any:
            # Libraries made for this system may have them; the package and its tests may not.
            if name in ABSENT and str((globals_ or {}).get("__name__", "")).startswith(("candletune", "test_")):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return plain(name, globals_, *rest, **key)

        self.patch.setattr(builtins, "__import__", imported)


def _ours(frame: Any) -> bool:
    """Whether candletune itself opens the file, pathlib in between left out."""
    while frame is not None and "pathlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and "candletune" in frame.f_globals.get("__name__", "")
