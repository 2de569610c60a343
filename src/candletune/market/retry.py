"""Asking a server again when it was busy, and giving up with one line that says so."""

import time
from collections.abc import Callable
from typing import TypeVar

from candletune.errors import InputError

T = TypeVar("T")
ATTEMPTS = 5
FIRST_WAIT = 1.0
"""Seconds before the second attempt; each later wait is twice as long."""
Wait = Callable[[float], None]


class Busy(Exception):
    """The server did not answer, or not with what was asked for; another attempt may help."""


def ask(request: Callable[[], T], what: str, *, wait: Wait = time.sleep) -> T:
    """Run `request`, again while it raises `Busy`, at most `ATTEMPTS` times.

    Args:
        request: one attempt.
        what: who is asked, for the message.
        wait: sleeps so many seconds.

    Raises:
        InputError: every attempt failed; names the last reason.
    """
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except Busy as busy:
            reason = " ".join(str(busy).split())[:160]
            if attempt + 1 < ATTEMPTS:
                wait(FIRST_WAIT * 2**attempt)
    raise InputError(f"{what}: no usable answer in {ATTEMPTS} attempts ({reason}); try again later") from None
