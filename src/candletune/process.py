"""What differs between systems about a process: its streams and the signals that end it."""

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""Ctrl-C; systemd, docker and `kill`; Ctrl-Break and the end of a console window (Windows only)."""


def utf8_streams() -> None:
    """Speak UTF-8 on pipes and redirected files, whatever the system's legacy encoding is.

    JSON on standard input and output is UTF-8 by its definition, and Windows would use cp1252. A terminal keeps its
    encoding, and shows what it has no letter for as an escape instead of ending the program.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, TextIOWrapper) or stream.encoding.lower().replace("-", "") == "utf8":
            continue
        if stream is sys.stdin:
            if not stream.isatty():
                stream.reconfigure(encoding="utf-8")
        elif stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def tell_service(state: str) -> bool:
    """Tell systemd how the service stands: `READY=1`, `WATCHDOG=1`, `STOPPING=1` (sd_notify(3)).

    Returns:
        False where nobody asked (no NOTIFY_SOCKET), or could be told.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1.0)
            channel.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:  # a service that cannot say that it lives is ended by its watchdog, not by this
        return False
    return True


_REMEDIES = {
    errno.ENOSPC: "make room on that disk, and run the same command again",
    errno.EDQUOT: "make room (your quota is used up), and run the same command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), and run the same command again",
    errno.EROFS: "choose a folder on another disk",
    errno.EACCES: "choose a place of your own, or close the program that has it open",
    errno.EPERM: "choose a place of your own",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about a refusal of the system, whichever file it comes from."""


_CUT_SHORT = ("inline_container.cc", "PytorchStreamWriter failed", "No space left on device", "os error 28")
"""How torch, safetensors and polars tell of a write that did not go through, in errors without a number."""


def machine_says(error: Exception) -> str | None:
    """A refusal of the machine (disk, permissions, memory) in one line with the remedy; None for any other error."""
    if not isinstance(error, OSError | MemoryError):
        text = " ".join(str(error).split())
        if not any(mark in text for mark in _CUT_SHORT):
            return None
        return (
            f"a file could not be written whole, so its disk is probably full ({text[:120]}); {_REMEDIES[errno.ENOSPC]}"
        )
    if isinstance(error, MemoryError):
        return f"out of memory ({str(error)[:120] or 'no details'}); close other programs, or ask for less at once"
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return f"{error.filename or 'a file'}: {error.strerror}; {remedy}"


def end_with_parent() -> None:
    """End this process, whatever it does, within a second of the end of the one that started it.

    For a part of another's work: the run folder's lock goes with the other, and the next owner must be alone.
    """
    import psutil

    number = os.getppid()
    parent = psutil.Process(number)

    def watch() -> None:
        # Where children of the dead are given another parent the first tells, on Windows the second.
        while os.getppid() == number and parent.is_running():
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def on_stop(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` for Ctrl-C, SIGTERM and, on Windows, Ctrl-Break inside the block; nothing outside the main thread."""
    before = {}
    try:
        for number in STOP_SIGNALS:
            before[number] = signal.signal(number, lambda *_: ask())
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_on_sigterm() -> None:
    """SIGTERM ends the program as Ctrl-C does: what is begun is put away, and the exit code is 130."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: the caller handles signals
        return
