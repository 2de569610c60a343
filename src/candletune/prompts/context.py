"""The prompt's context: from a market row or from a trader's JSON, and how each field is displayed.

The keys are the Signal contract's. A market row and the JSON a live trader sends end in the same display fields, so a
model is served exactly what it was trained on.
"""

import math
from collections.abc import Mapping
from typing import Any

from candletune.errors import InputError
from candletune.market.sentiment import NEUTRAL_FEAR_GREED, NO_HEADLINES, clean_headline, fear_greed_class

NOT_AVAILABLE = "N/A"
_NUMBERS = ("change_24h", "rsi", "macd_hist", "ema_gap_pct", "fear_greed", "sentiment_confidence")
_TEXTS = ("bb_position", "fear_greed_class", "news_sentiment", "timeframe_summary")
_REQUIRED = ("ticker", "price_usd")
_RANGES = {"rsi": (0.0, 100.0), "fear_greed": (0.0, 100.0), "sentiment_confidence": (0.0, 1.0)}
KEYS = (*_REQUIRED, *_NUMBERS, "ema_bullish", *_TEXTS, "headlines")
TEXT_LIMIT = 160
HEADLINES_LIMIT = 3


def context_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A market row (features.market_rows) as a context."""
    context = {key: row[key] for key in KEYS if key in row}
    context["ticker"] = row["asset"]
    context["price_usd"] = row["close"]
    return context


def clean_context(given: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a trader's JSON context; optional fields missing, null or "N/A" become None, text is cleaned.

    Raises:
        InputError: names the key, what was expected and what was given.
    """
    context: dict[str, Any] = {}
    for key in _REQUIRED:
        if given.get(key) in (None, ""):
            raise InputError(f"context.{key}: missing; send it with every request")
    context["ticker"] = _text(given, "ticker", 24)
    context["price_usd"] = _number(given, "price_usd")
    if context["price_usd"] is None or context["price_usd"] <= 0:
        raise InputError(f"context.price_usd: expected a positive number, got {given['price_usd']!r}")
    for key in _NUMBERS:
        context[key] = _number(given, key)
    bullish = given.get("ema_bullish")
    if _absent(bullish):
        bullish = None
    elif not isinstance(bullish, bool):
        raise InputError(f"context.ema_bullish: expected true or false, got {bullish!r}")
    context["ema_bullish"] = bullish
    for key in _TEXTS:
        context[key] = _text(given, key, TEXT_LIMIT)
    context["headlines"] = _headlines(given.get("headlines"))
    return context


def display_fields(context: Mapping[str, Any]) -> dict[str, Any]:
    """The template's fields, formatted; a missing one reads N/A (sentiment: its neutral placeholder)."""
    gap, bullish = context.get("ema_gap_pct"), context.get("ema_bullish")
    fear = context.get("fear_greed")
    fear = NEUTRAL_FEAR_GREED if fear is None else fear
    confidence = context.get("sentiment_confidence")
    return {
        "ticker": context.get("ticker", NOT_AVAILABLE),
        "price_usd": _price(context.get("price_usd")),
        "change_24h": _format(context.get("change_24h"), "+.2f", "%"),
        "rsi": _format(context.get("rsi"), ".1f"),
        "macd_hist": _macd(context.get("macd_hist"), context.get("price_usd")),
        "ema": NOT_AVAILABLE
        if bullish is None
        else f"{'bullish' if bullish else 'bearish'} (gap {_format(gap, '+.2f', '%')})",
        "ema_bullish": bullish,
        "ema_gap_pct": _format(gap, "+.2f", "%"),
        "bb_position": context.get("bb_position") or NOT_AVAILABLE,
        "fear_greed": f"{fear:.0f}",
        "fear_greed_class": context.get("fear_greed_class") or fear_greed_class(fear),
        "news_sentiment": context.get("news_sentiment") or "neutral",
        "sentiment_confidence": f"{0.0 if confidence is None else confidence:.2f}",
        "timeframe_summary": context.get("timeframe_summary") or NOT_AVAILABLE,
        "headlines": context.get("headlines") or NO_HEADLINES,
    }


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().upper() in ("", "N/A", "NA", "NONE"))


def _number(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if _absent(value):
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            raise InputError(f"context.{key}: expected a number, got {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"context.{key}: expected a number, got {value!r}")
    low, high = _RANGES.get(key, (-math.inf, math.inf))
    if not low <= value <= high:
        raise InputError(f"context.{key}: expected a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def _text(given: Mapping[str, Any], key: str, limit: int) -> str | None:
    value = given.get(key)
    if _absent(value):
        return None
    if not isinstance(value, str):
        raise InputError(f"context.{key}: expected text, got {value!r}")
    # The separator of timeframe summaries stays; everything else is treated as text from outside.
    return " | ".join(clean_headline(part, limit=limit) for part in value.split("|"))


def _headlines(value: Any) -> str:
    if _absent(value):
        return NO_HEADLINES
    parts = value.split("|") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"context.headlines: expected text or a list of texts, got {value!r}")
    cleaned = [text for part in parts[:HEADLINES_LIMIT] if (text := clean_headline(part))]
    return " | ".join(cleaned) or NO_HEADLINES


def _format(value: float | None, spec: str, unit: str = "") -> str:
    return NOT_AVAILABLE if value is None else f"{value:{spec}}{unit}"


def _price(value: float | None) -> str:
    if value is None:
        return NOT_AVAILABLE
    # Six significant digits, never an exponent: a model reads digits better than 1e-05.
    return f"{value:,.2f}" if value >= 100 else f"{value:.{min(12, 5 - math.floor(math.log10(value)))}f}"


def _macd(value: float | None, price: float | None) -> str:
    """MACD is in price units: two decimals for a coin of thousands of dollars, ten for one of thousandths of a cent."""
    if value is None:
        return NOT_AVAILABLE
    decimals = 2 if not price else min(12, max(2, 5 - math.floor(math.log10(price))))
    return f"{value:+.{decimals}f}"
