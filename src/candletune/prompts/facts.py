"""What the indicators of one row show, as short noun phrases that cite values and are true of the row.

Reasons are built from these phrases and the grounding checker judges by the same bounds: RSI below 30 is oversold and
above 70 overbought (Wilder 1978); the bounds between are this project's wording.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["bull", "bear", "neutral"]

RSI_BOUNDS = (30.0, 45.0, 55.0, 70.0)
FLAT_CHANGE = 0.5
"""24h changes within this many percent read as flat."""
_TIMEFRAME = re.compile(r"(\d+[mhdw]) (bullish|bearish)")


@dataclass(frozen=True, slots=True)
class Fact:
    """One indicator's state: which side it speaks for, and how to say it."""

    topic: str
    side: Side
    phrases: tuple[str, ...]


def rsi_word(rsi: float) -> str:
    """oversold, weak, neutral, firm or overbought; the displayed value (one decimal) decides."""
    shown = round(rsi, 1)
    low, weak, firm, high = RSI_BOUNDS
    if shown < low:
        return "oversold"
    if shown < weak:
        return "weak"
    if shown <= firm:
        return "neutral"
    return "firm" if shown <= high else "overbought"


def timeframe_sides(summary: str) -> dict[str, str]:
    """`{"4h": "bullish", ...}` from a timeframe summary."""
    return dict(_TIMEFRAME.findall(summary))


def facts_of(context: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Fact]:
    """The facts of a row: `context` holds raw values, `fields` the same values as the prompt displays them."""
    found = [_rsi(context, fields), _macd(context, fields), _ema(context, fields), _bands(context), _change(context, fields)]
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    for side, word in (("bull", "bullish"), ("bear", "bearish")):
        names = [name for name, trend in trends.items() if trend == word]
        if len(names) * 2 > len(trends):
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
            plural = "trends" if len(names) > 1 else "trend"
            found.append(Fact("timeframes", side, (f"{word} {listed} {plural}", f"{word} {plural} on {listed}")))  # type: ignore[arg-type]
    return [fact for fact in found if fact is not None]


def _rsi(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    if context.get("rsi") is None:
        return None
    word, value = rsi_word(context["rsi"]), fields["rsi"]
    side: Side = {"oversold": "bull", "weak": "bear", "neutral": "neutral", "firm": "bull", "overbought": "bear"}[word]  # type: ignore[assignment]
    article = "an" if word[0] == "o" else "a"
    return Fact("rsi", side, (f"{article} {word} RSI of {value}", f"{article} {word} RSI at {value}", f"RSI {value} ({word})"))


def _macd(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    value = context.get("macd_hist")
    if value is None or not fields["macd_hist"].strip("+-0."):
        return None
    side: Side = "bull" if value > 0 else "bear"
    word, shown = ("positive" if value > 0 else "negative"), fields["macd_hist"]
    return Fact("macd", side, (f"a {word} MACD histogram of {shown}", f"a {word} MACD histogram ({shown})"))


def _ema(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    if context.get("ema_bullish") is None or context.get("ema_gap_pct") is None:
        return None
    word, gap = ("bullish" if context["ema_bullish"] else "bearish"), fields["ema_gap_pct"]
    side: Side = "bull" if context["ema_bullish"] else "bear"
    return Fact("ema", side, (f"a {word} EMA crossover with a gap of {gap}", f"{word} EMAs (gap {gap})"))


def _bands(context: Mapping[str, Any]) -> Fact | None:
    position = context.get("bb_position")
    known: dict[str, tuple[Side, tuple[str, ...]]] = {
        "above upper band": ("bear", ("a price above the upper Bollinger band", "a close above the upper band")),
        "near upper band": ("bear", ("a price near the upper Bollinger band", "a close near the upper band")),
        "below lower band": ("bull", ("a price below the lower Bollinger band", "a close below the lower band")),
        "near lower band": ("bull", ("a price near the lower Bollinger band", "a close near the lower band")),
        "inside bands": ("neutral", ("a price inside the Bollinger bands", "a close inside the bands")),
    }
    return Fact("bands", *known[position]) if position in known else None


def _change(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    change = context.get("change_24h")
    if change is None:
        return None
    shown = fields["change_24h"]
    if abs(change) < FLAT_CHANGE:
        return Fact("change", "neutral", (f"a flat 24h change of {shown}", f"a quiet 24h change of {shown}"))
    if change > 0:
        return Fact("change", "bull", (f"a 24h gain of {shown}", f"a 24h rise of {shown}"))
    return Fact("change", "bear", (f"a 24h loss of {shown}", f"a 24h drop of {shown}"))


def say(fact: Fact, rng: random.Random) -> str:
    """One of the fact's phrases."""
    return fact.phrases[rng.randrange(len(fact.phrases))]
