"""The known name that a misspelled one means: `rsi_14` means `rsi`, `price` means `price_usd`."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

_ALIKE = 0.8
_LEAST_LETTERS = 4
"""Names of fewer letters resemble too much by chance."""
_MOST_LETTERS = 64
"""Longer ones are no misspellings, and comparing them takes long."""


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Known names that `name` may be a misspelling of, nearest first; empty when there is none.

    A name is near when it has the same words but for numbers and case (`RSI(14)`, `rsi14`), when it starts with the
    same word and has some of the other's words or all of them and more (`ema_gap`, `fear_greed_index`), or when its
    letters are nearly the same (`headlnes`).
    """
    if len(name) > _MOST_LETTERS:
        return []
    near = [(_alike(name, other), other) for other in known if _is_near(name, other)]
    return [other for _, other in sorted(near, key=lambda pair: (-pair[0], pair[1]))]


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean rsi?`, or nothing."""
    near = near_names(name, known)
    return f"; did you mean {near[0]}?" if near else ""


def _is_near(name: str, other: str) -> bool:
    mine, theirs = _words(name), _words(other)
    if not mine or not theirs:
        return False
    if "".join(mine) == "".join(theirs):
        return True
    if mine[0] == theirs[0] and (_within(mine, theirs) or _within(theirs, mine)):
        return True
    return min(len("".join(mine)), len("".join(theirs))) >= _LEAST_LETTERS and _alike(name, other) >= _ALIKE


def _within(some: list[str], others: list[str]) -> bool:
    """Whether each word is among the others, or the beginning of one, or begun by one (`hist`, `histogram`)."""
    return all(any(word.startswith(other) or other.startswith(word) for other in others) for word in some)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())


def _alike(name: str, other: str) -> float:
    return SequenceMatcher(None, "".join(_words(name)), "".join(_words(other))).ratio()
