"""RSI(14): below 30 oversold, above 70 overbought (Wilder 1978); the bounds between are this project's wording."""

import re
from collections.abc import Mapping

import numpy as np
import polars as pl
import talib
from numpy.typing import NDArray

from candletune.fields.field import CandleColumns, Context, Fact, Feature, Field, Leaning, Shown, check, number_text
from candletune.fields.keys import number_key
from candletune.fields.timeframes import timeframe_rsi
from candletune.fields.wording import CITED, NOT, same_number

PERIOD = 14
BOUNDS = (30.0, 45.0, 55.0, 70.0)
_SIDES: Mapping[str, Leaning] = {
    "oversold": "bull",
    "weak": "bear",
    "neutral": "neutral",
    "firm": "bull",
    "overbought": "bear",
}


def rsi_word(rsi: float) -> str:
    """oversold, weak, neutral, firm or overbought; the displayed value (one decimal) decides."""
    shown = round(rsi, 1)
    low, weak, firm, high = BOUNDS
    if shown < low:
        return "oversold"
    if shown < weak:
        return "weak"
    if shown <= firm:
        return "neutral"
    return "firm" if shown <= high else "overbought"


def _compute(candles: pl.DataFrame, _: int) -> dict[str, pl.Series]:
    close = candles["close"]
    rsi = talib.RSI(close.to_numpy(), PERIOD)
    still = close.rolling_max(PERIOD + 1) == close.rolling_min(PERIOD + 1)
    # A market that stands still has neither gains nor losses; TA-Lib says 0, which reads as oversold.
    filled: NDArray[np.float64] = np.where((rsi == 0) & still.fill_null(False).to_numpy(), 50.0, rsi)
    return {"rsi": pl.Series(filled)}


def _display(context: Context) -> Shown:
    return {"rsi": number_text(context.get("rsi"), ".1f")}


def _fact(context: Context, shown: Shown) -> Fact | None:
    if context.get("rsi") is None:
        return None
    word, value = rsi_word(context["rsi"]), shown["rsi"]
    article = "an" if word[0] == "o" else "a"
    phrases = (f"{article} {word} RSI of {value}", f"{article} {word} RSI at {value}", f"RSI at {value} ({word})")
    return Fact("rsi", _SIDES[word], phrases)


def _value(match: "re.Match[str]", context: Context, shown: Shown) -> bool:
    longer = timeframe_rsi(context.get("timeframe_summary") or "")
    return same_number(match["value"], longer.get(match["frame"] or "", shown["rsi"]), match["about"])


def _bound(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    rsi = context.get("rsi")
    if rsi is None:
        return False
    bound = float(match["bound"])
    return bool(rsi > bound) if match["than"] in ("above", "over") else bool(rsi < bound)


def _extreme(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    rsi = context.get("rsi")
    return rsi is not None and (rsi_word(rsi) == match["word"].lower()) != bool(match["no"])


def _mood(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    rsi = context.get("rsi")
    return rsi is not None and rsi_word(rsi) == (match["word"] or match["mark"])


FIELD = Field(
    name="rsi",
    order=20,
    source="RSI(14), Wilder (1978), by TA-Lib, 0 to 100; 50 for a market that does not move at all",
    keys=(number_key("rsi", 0, 100),),
    columns=(CandleColumns(("rsi",), _compute),),
    display=_display,
    fact=_fact,
    checks=(
        check("rsi", rf"(?:\b(?P<frame>\d+[mhdw])\s+)?\bRSI(?:\s*\(14\))?{CITED}", _value),
        check("rsi", r"\bRSI(?: is| remains)? (?P<than>above|over|below|under) (?P<bound>\d+(?:\.\d+)?)", _bound),
        check("over", rf"{NOT}\b(?P<word>oversold|overbought)\b", _extreme),
        check("rsi", r"\b(?P<word>weak|neutral|firm) RSI|\bRSI[^.;,]{0,12}\d \((?P<mark>weak|neutral|firm)\)", _mood),
    ),
    features=(Feature("rsi", pl.col("rsi")),),
)
