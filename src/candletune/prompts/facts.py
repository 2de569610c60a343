"""What one row shows, as short noun phrases that cite values and are true of the row.

Reasons are built from these phrases and the grounding checker judges by the same bounds: RSI below 30 is oversold and
above 70 overbought (Wilder 1978); the bounds between are this project's wording. Every phrase is singular, so that a
reason template's verb fits whichever fact it gets.
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
_TIMEFRAME = re.compile(r"(\d+[mhdw]) (bullish|bearish) RSI (\d+)")
_RSI_SIDES: Mapping[str, Side] = {
    "oversold": "bull",
    "weak": "bear",
    "neutral": "neutral",
    "firm": "bull",
    "overbought": "bear",
}
_BANDS: Mapping[str, tuple[Side, tuple[str, ...]]] = {
    "above upper band": ("bear", ("a price above the upper Bollinger band", "a close above the upper band")),
    "near upper band": ("bear", ("a price near the upper Bollinger band", "a close near the upper band")),
    "below lower band": ("bull", ("a price below the lower Bollinger band", "a close below the lower band")),
    "near lower band": ("bull", ("a price near the lower Bollinger band", "a close near the lower band")),
    "inside bands": ("neutral", ("a price inside the Bollinger bands", "a close inside the bands")),
}


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
    return {frame: side for frame, side, _ in _TIMEFRAME.findall(summary)}


def timeframe_rsi(summary: str) -> dict[str, int]:
    """`{"4h": 61, ...}` from a timeframe summary."""
    return {frame: int(rsi) for frame, _, rsi in _TIMEFRAME.findall(summary)}


def facts_of(context: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Fact]:
    """The facts of a row: `context` holds raw values, `fields` the same values as the prompt displays them."""
    position = context.get("bb_position") or ""
    found = [
        _rsi(context, fields),
        _macd(context, fields),
        _ema(context, fields),
        Fact("bands", *_BANDS[position]) if position in _BANDS else None,
        _change(context, fields),
        _timeframes(context),
        _fear_greed(context, fields),
        _news(context, fields),
    ]
    return [fact for fact in found if fact is not None]


def _rsi(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    if context.get("rsi") is None:
        return None
    word, value = rsi_word(context["rsi"]), fields["rsi"]
    article = "an" if word[0] == "o" else "a"
    phrases = (f"{article} {word} RSI of {value}", f"{article} {word} RSI at {value}", f"RSI at {value} ({word})")
    return Fact("rsi", _RSI_SIDES[word], phrases)


def _macd(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    value, shown = context.get("macd_hist"), fields["macd_hist"]
    if value is None or not shown.strip("+-0."):
        return None
    side: Side = "bull" if value > 0 else "bear"
    word = "positive" if value > 0 else "negative"
    return Fact("macd", side, (f"a {word} MACD histogram of {shown}", f"a {word} MACD histogram ({shown})"))


def _ema(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    if context.get("ema_bullish") is None or context.get("ema_gap_pct") is None:
        return None
    gap = fields["ema_gap_pct"]
    side: Side = "bull" if context["ema_bullish"] else "bear"
    word, place = ("bullish", "above") if context["ema_bullish"] else ("bearish", "below")
    phrases = (
        f"a {word} EMA crossover with a gap of {gap}",
        f"a {word} EMA gap of {gap}",
        f"the fast EMA {place} the slow one (gap {gap})",
    )
    return Fact("ema", side, phrases)


def _change(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    change, shown = context.get("change_24h"), fields["change_24h"]
    if change is None:
        return None
    if abs(change) < FLAT_CHANGE:
        return Fact("change", "neutral", (f"a flat 24h change of {shown}", f"a quiet 24h change of {shown}"))
    size = shown.lstrip("+-")
    if change > 0:
        return Fact("change", "bull", (f"a 24h gain of {size}", f"a 24h rise of {size}", f"a 24h change of {shown}"))
    return Fact("change", "bear", (f"a 24h loss of {size}", f"a 24h drop of {size}", f"a 24h change of {shown}"))


def _timeframes(context: Mapping[str, Any]) -> Fact | None:
    """The side most longer timeframes are on; none when they are split."""
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    sides: tuple[tuple[Side, str], ...] = (("bull", "bullish"), ("bear", "bearish"))
    for side, word in sides:
        names = [name for name, trend in trends.items() if trend == word]
        if len(names) * 2 > len(trends):
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
            return Fact("timeframes", side, (f"a {word} {listed} trend", f"a {word} trend on {listed}"))
    return None


def _fear_greed(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    """Mood, read with the crowd: fear weighs, greed lifts. The neutral placeholder is no fact."""
    word, value = fields["fear_greed_class"], fields["fear_greed"]
    if context.get("fear_greed") is None or word == "Neutral":
        return None
    side: Side = "bear" if "Fear" in word else "bull"
    return Fact("fear_greed", side, (f"a Fear & Greed index of {value} ({word})", f"Fear & Greed at {value} ({word})"))


def _news(context: Mapping[str, Any], fields: Mapping[str, Any]) -> Fact | None:
    word = context.get("news_sentiment")
    if word not in ("positive", "negative"):
        return None
    side: Side = "bull" if word == "positive" else "bear"
    return Fact("news", side, (f"{word} news sentiment (confidence {fields['sentiment_confidence']})",))


def say(fact: Fact, rng: random.Random) -> str:
    """One of the fact's phrases."""
    return fact.phrases[int(rng.random() * len(fact.phrases))]
