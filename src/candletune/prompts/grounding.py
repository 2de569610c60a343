"""Read a reason back and say which of its claims hold for the row it was written about."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from candletune.prompts.context import display_fields
from candletune.prompts.facts import FLAT_CHANGE, rsi_word, timeframe_sides


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable claim: the words it stands in, and whether it is true of the row."""

    text: str
    holds: bool


_NUMBER = r"(?P<value>[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"
_VALUES: tuple[tuple[str, str], ...] = (
    ("rsi", rf"\bRSI(?:\(14\))?(?: (?:of|at|is|reading))? \(?{_NUMBER}"),
    ("macd_hist", rf"\bMACD(?: histogram)?(?: (?:of|at|is))? \(?{_NUMBER}"),
    ("ema_gap_pct", rf"\bgap(?: (?:of|at|is))? {_NUMBER}\s*%"),
    ("change_24h", rf"\b24h [a-z]+(?: (?:of|at|is))? {_NUMBER}\s*%"),
    ("fear_greed", rf"\bFear & Greed(?: (?:of|at|is))? \(?{_NUMBER}"),
)
_RSI_WORDS = r"\b(?P<word>oversold|overbought)\b|\b(?P<mood>weak|neutral|firm) RSI|RSI [\d.]+ \((?P<mark>weak|neutral|firm)\)"
_TREND = r"\b(?P<word>bullish|bearish) (?:EMA|crossover)|\b(?P<other>bullish|bearish) (?:EMA )?crossover"
_MACD = r"\b(?P<word>positive|negative) MACD"
_BAND = r"\b(?P<where>above|below|near) (?:the )?(?P<band>upper|lower)(?: Bollinger)? band|\b(?P<inside>inside) (?:the )?(?:Bollinger )?bands"
_CHANGE = r"\b24h (?P<word>gain|rise|loss|drop)\b|\b(?P<flat>flat|quiet) 24h"
_FRAMES = (
    r"\b(?P<word>bullish|bearish) (?P<names>\d+[mhdw](?:(?:, | and )\d+[mhdw])*) trends?"
    r"|\b(?P<other>bullish|bearish) trends? on (?P<listed>\d+[mhdw](?:(?:, | and )\d+[mhdw])*)"
)


def check_reason(reason: str, context: Mapping[str, Any]) -> list[Claim]:
    """Every claim found in a reason.

    Args:
        reason: the sentence after `DECISION: X - `.
        context: Signal-contract context with raw values.

    Returns:
        Claims in the order of the checks; empty when the reason claims nothing checkable.
    """
    fields = display_fields(context)
    claims = [
        Claim(match[0], _equal(match["value"], fields[name]))
        for name, pattern in _VALUES
        for match in re.finditer(pattern, reason)
    ]
    checks: tuple[tuple[str, Callable[[re.Match[str], Mapping[str, Any]], bool]], ...] = (
        (_RSI_WORDS, _rsi_holds),
        (_TREND, _trend_holds),
        (_MACD, _macd_holds),
        (_BAND, _band_holds),
        (_CHANGE, _change_holds),
        (_FRAMES, _frames_hold),
    )
    for pattern, holds in checks:
        claims += [Claim(match[0], holds(match, context)) for match in re.finditer(pattern, reason)]
    return claims


def grounded(reason: str, context: Mapping[str, Any]) -> bool | None:
    """True when every claim holds, False when one does not, None when nothing checkable is claimed."""
    claims = check_reason(reason, context)
    return all(claim.holds for claim in claims) if claims else None


def _equal(cited: str, shown: str) -> bool:
    try:
        value, known = float(cited.replace(",", "")), float(str(shown).strip("%").replace(",", ""))
    except ValueError:
        return False
    decimals = len(cited.partition(".")[2].partition("e")[0])
    # A citation may round what the prompt shows; it may not say something else.
    return abs(value - known) <= 0.5 * 10**-decimals + 1e-12


def _rsi_holds(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    rsi = context.get("rsi")
    return rsi is not None and rsi_word(rsi) == (match["word"] or match["mood"] or match["mark"])


def _trend_holds(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    bullish = context.get("ema_bullish")
    return bullish is not None and bool(bullish) == ((match["word"] or match["other"]) == "bullish")


def _macd_holds(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    value = context.get("macd_hist")
    return value is not None and (value > 0) == (match["word"] == "positive") and value != 0


def _band_holds(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    said = "inside bands" if match["inside"] else f"{match['where']} {match['band']} band"
    return bool(context.get("bb_position") == said)


def _change_holds(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    change = context.get("change_24h")
    if change is None:
        return False
    if match["flat"]:
        return bool(abs(change) < FLAT_CHANGE)
    return bool(change > 0) if match["word"] in ("gain", "rise") else bool(change < 0)


def _frames_hold(match: re.Match[str], context: Mapping[str, Any]) -> bool:
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    names = re.findall(r"\d+[mhdw]", match["names"] or match["listed"])
    return all(trends.get(name) == (match["word"] or match["other"]) for name in names)
