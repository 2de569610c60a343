"""Asking a server again when it was busy, and giving up with one line that says so."""

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

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
    attempts = Retrying(
        retry=retry_if_exception_type(Busy),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(FIRST_WAIT),
        sleep=wait,
    )
    try:
        return attempts(request)
    except RetryError as failed:
        reason = " ".join(str(failed.last_attempt.exception()).split())[:160]
        raise InputError(f"{what}: no usable answer in {ATTEMPTS} attempts ({reason}); try again later") from None
