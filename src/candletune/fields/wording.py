"""Pieces of the claims' patterns, and how a cited number is compared with what the prompt shows."""

import re

from candletune.fields.field import Context, Judge, Shown

NUMBER = r"(?P<value>[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.]*\d*(?:h|d|w)\b)"
ABOUT = r"(?P<about>(?:is |at |of |sits |stands )?(?:near|around|about|roughly|approximately|close to))"
IS = r"(?:\s+(?:of|at|is|are|was|reads|reading|sits at|stands at|is at|currently at|value of|level of|" + ABOUT + "))?"
SIGN = r"\s*[:=(]?\s*"
NOT = r"(?P<no>(?:\bnot|\bno longer|n't|\brather than)\s+(?:yet |quite |an? |in |deeply )*)?"
CITED = f"{IS}{SIGN}{NUMBER}"
"""A value after its name: " of 28.4", " is near 30", ": 61"; the groups are `value` and `about`."""


def same_number(cited: str, shown: object, about: str | None = None) -> bool:
    """Equal to what the prompt shows, or that value rounded to fewer decimals; after "near" within a tenth of it."""
    try:
        value, known = float(cited.replace(",", "")), float(str(shown).strip("%").replace(",", ""))
    except ValueError:
        return False
    decimals = len(cited.partition(".")[2].partition("e")[0])
    return abs(value - known) <= max(0.5 * 0.1**decimals, 0.1 * abs(known) if about else 0.0) + 1e-9


def value_of(name: str) -> Judge:
    """Judge of `CITED`: the value is the one shown as the template's `name`."""

    def judge(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
        return same_number(match["value"], shown[name], match["about"])

    return judge


def first_group(match: "re.Match[str]", *names: str) -> str:
    """The first of the named groups that matched, in lower case."""
    return next(match[name] for name in names if match[name]).lower()
