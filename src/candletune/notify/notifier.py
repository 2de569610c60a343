"""Sending, in a thread of its own: neither a slow service nor a broken one may hold up training or an answer.

Addresses hold tokens and passwords. They stay `SecretStr` until apprise gets them, and nothing said here holds more of
one than its scheme.
"""

import logging
import os
import threading
from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any

from pydantic import SecretStr

from candletune.config import NotifyConfig

VARIABLE = "CANDLETUNE_NOTIFY_URLS"
"""Environment variable with more addresses, separated by white space; out of every file and process list."""
WAITING = 100
"""Messages waiting at most; more are dropped, with a warning."""
CLOSE_SECONDS = 20.0
"""Longest wait for the last messages when the program ends."""


class Event(StrEnum):
    """What may be told; the values are those of `notify.events`."""

    TRAINING = "training"
    FAILURE = "failure"
    VERDICT = "verdict"
    FAULT = "fault"
    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    DRIFT = "drift"


class Notifier:
    """Tells people; does nothing without an address.

    Args:
        config: addresses and wanted events.
        warn: told in one line what could not be sent, without any secret.
    """

    def __init__(self, config: NotifyConfig, warn: Callable[[str], None]) -> None:
        self._events = frozenset(config.events)
        self._addresses = [*config.urls, *(SecretStr(text) for text in os.environ.get(VARIABLE, "").split())]
        self._warn = warn
        self._waiting: Queue[tuple[str, str]] = Queue(WAITING)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        if self._addresses and find_spec("apprise") is None:
            self._addresses = []
            warn("notify.urls: needs apprise, so nothing is sent; pip install apprise")

    def __enter__(self) -> "Notifier":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def tell(self, event: Event, title: str, body: str = "") -> None:
        """Send a message soon; returns at once and never raises.

        Args:
            event: dropped unless `notify.events` has it.
            title: one line.
            body: more lines; without any, the title is sent alone.
        """
        if not self._addresses or event.value not in self._events:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="candletune-notify", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((f"candletune: {title}", body or title))
        except Full:
            self._warn(f"notify: {WAITING} messages wait already; dropped: {title}")

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for so many seconds at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ending.set()
        thread.join(seconds)
        if thread.is_alive():
            self._warn(f"notify: gave up after {seconds:g} seconds; a message may not have arrived")

    def _work(self) -> None:
        services = self._open()
        while True:
            try:
                title, body = self._waiting.get(timeout=0.05)
            except Empty:
                if self._ending.is_set():
                    return
                continue
            for name, service in services:
                try:
                    sent = bool(service.notify(title=title, body=body))
                except Exception as error:  # the boundary: whatever a service does, it is only a message
                    self._warn(f"notify: {name}: {type(error).__name__}; not sent: {title}")
                    continue
                if not sent:
                    self._warn(f"notify: {name}: not delivered: {title}; check the address and the service")

    def _open(self) -> list[tuple[str, Any]]:
        """The services apprise makes of the addresses, each with a name that can be shown."""
        import apprise

        _hush()

        services = []
        for number, address in enumerate(self._addresses, start=1):
            name = f"address {number} ({_scheme(address.get_secret_value())})"
            service = apprise.Apprise()
            try:
                known = service.add(address.get_secret_value())
            except Exception:  # a malformed address must not show itself in a traceback
                known = False
            if known:
                services.append((name, service))
            else:
                self._warn(f"notify.urls: {name} is none that apprise knows; see its list of services")
        return services


def _scheme(address: str) -> str:
    scheme, separator, _ = address.partition("://")
    return f"{scheme}://" if separator and scheme.isalnum() else "no scheme"


def _hush() -> None:
    """Keep what apprise and its HTTP client log out of every log: they write addresses out in full.

    Whatever the thread: apprise sends from threads of its own.
    """
    for name in ("apprise", "requests", "urllib3", "urllib3.connectionpool", "urllib3.util.retry"):
        log = logging.getLogger(name)
        if _nothing not in log.filters:
            log.addFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False
