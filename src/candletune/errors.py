"""The exception tree. `cli.main` turns each branch into an exit code, once.

A message is one line: what is wrong, where (file, row or key), what was expected, and what to do.
"""


class CandletuneError(Exception):
    """Base of every error a user can mend; its message is printed without a traceback."""

    exit_code: int = 1

    @property
    def lines(self) -> list[str]:
        """The message, or several where one error stands for several problems."""
        return [str(self)]


class UsageError(CandletuneError):
    """Bad command line or configuration (exit code 2)."""

    exit_code = 2


class InputError(CandletuneError):
    """Bad input data: missing, unreadable, inconsistent or of another run (exit code 3)."""

    exit_code = 3


class Unserved(InputError):
    """Nothing is wrong with the request: who acts is unknown, or cannot be loaded. Over HTTP 503, not 422."""


class OutOfMemory(InputError):
    """Card or memory do not hold what was asked for; the message names the settings that make it smaller."""


class CheckFailed(CandletuneError):
    """A check said no: a failed verification, or a verdict that is not `promote` (exit code 4)."""

    exit_code = 4
