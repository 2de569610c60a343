"""Read a reason back and say which of its claims hold for the row it was written about.

Used on the dataset's own completions, all of whose claims must hold, and on models' free wording in evaluation. A claim
is something the prompt decides: a cited value, or a word with a bound behind it ("oversold", "bullish crossover",
"above the upper band"). Opinions ("a rise looks likely") are no claims. Each field brings the checks of its own claims;
what is left here are names of things that no field shows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from candletune.fields.field import Check, Context, Judge, Shown, check
from candletune.fields.headlines import QUOTED
from candletune.fields.registry import FIELDS
from candletune.prompts.context import display_fields

_NAMES: Final = (
    ("volume", r"volumes?"),
    ("interest", r"open interest"),
    ("funding", r"funding(?: rates?)?"),
    ("book", r"order book"),
    ("chain", r"on-chain"),
    ("whale", r"whales?"),
    ("level support", r"support (?:level|zone|at|near|around)"),
    ("resist", r"resistance"),
    ("cross", r"(?:golden|death) cross"),
    ("sma ema day period hour 50 100 200", r"(?:50|100|200)[- ]?(?:day|period|hour|h)?[- ]?(?:SMA|EMA|MA)"),
    ("vwap", r"VWAP"),
    ("adx", r"ADX"),
    ("stoch", r"stochastic"),
    ("fib", r"Fibonacci"),
)
"""Things a trader may speak of and a prompt may not show: words of which one must occur, and the pattern."""


_QUOTED: Final = re.compile(QUOTED, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable claim: the words it stands in, and whether it is true of the row."""

    text: str
    holds: bool


def check_reason(reason: str, context: Mapping[str, Any]) -> list[Claim]:
    """Every claim found in a reason, in reading order.

    Args:
        reason: the sentence after `DECISION: X - `.
        context: Signal-contract context with raw values.

    Returns:
        Claims; empty when the reason claims nothing checkable. What a quoted headline says is the headline's claim, not
        the reason's: that it is shown is checked, not whether it is true.
    """
    shown = display_fields(context)
    quoted = [match.span("title") for match in _QUOTED.finditer(reason)]
    matches = sorted(_matches(reason), key=lambda item: item[0].start())
    return [
        Claim(match[0].strip(), judge(match, context, shown))
        for match, judge in matches
        if not any(start <= match.start() and match.end() <= end for start, end in quoted)
    ]


def grounded(reason: str, context: Mapping[str, Any]) -> bool | None:
    """True when every claim holds, False when one does not, None when nothing checkable is claimed."""
    claims = check_reason(reason, context)
    return all(claim.holds for claim in claims) if claims else None


def _matches(reason: str) -> Iterator[tuple["re.Match[str]", Judge]]:
    lower = reason.lower()
    for one in _CHECKS:
        if any(word in lower for word in one.words):
            for match in one.pattern.finditer(reason):
                yield match, one.judge


def _unseen(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    """Something the prompt never shows: invented, unless a headline speaks of it."""
    return match[0].lower() in str(shown["headlines"]).lower()


def _unseen_check(known: tuple[str, ...]) -> Check:
    """The check of names that no field is known as."""
    left = [
        (words, pattern)
        for words, pattern in _NAMES
        if not any(re.fullmatch(pattern, name, re.IGNORECASE) for name in known)
    ]
    return check(" ".join(words for words, _ in left), rf"\b(?:{'|'.join(pattern for _, pattern in left)})\b", _unseen)


_CHECKS: Final = (
    *(one for field in FIELDS for one in field.checks),
    _unseen_check(tuple(name for field in FIELDS for name in field.known_as)),
)
