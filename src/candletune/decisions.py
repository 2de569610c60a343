"""The three decisions, in the one order every array, table and file uses."""

from typing import Final, Literal

Decision = Literal["BUY", "SELL", "HOLD"]

BUY: Final = "BUY"
SELL: Final = "SELL"
HOLD: Final = "HOLD"
DECISIONS: Final[tuple[Decision, Decision, Decision]] = ("BUY", "SELL", "HOLD")
"""Column order of every (n, 3) probability array."""
