"""The MACD histogram, in price units."""

import math
import re

import polars as pl
import talib

from candletune.fields.field import (
    NOT_AVAILABLE,
    CandleColumns,
    Context,
    Fact,
    Feature,
    Field,
    Leaning,
    Shown,
    check,
)
from candletune.fields.keys import number_key
from candletune.fields.wording import CITED, first_group, value_of

PERIODS = (12, 26, 9)


def _compute(candles: pl.DataFrame, _: int) -> dict[str, pl.Series]:
    _macd, _signal, histogram = talib.MACD(candles["close"].to_numpy(), *PERIODS)
    return {"macd_hist": pl.Series(histogram)}


def _display(context: Context) -> Shown:
    return {"macd_hist": _text(context.get("macd_hist"), context.get("price_usd"))}


def _text(value: float | None, price: float | None) -> str:
    """Two decimals for a coin of thousands of dollars, ten for one of thousandths of a cent."""
    if value is None:
        return NOT_AVAILABLE
    decimals = 2 if not price else min(12, max(2, 5 - math.floor(math.log10(price))))
    return f"{value:+.{decimals}f}"


def _fact(context: Context, shown: Shown) -> Fact | None:
    value, text = context.get("macd_hist"), shown["macd_hist"]
    if value is None or not text.strip("+-0."):
        return None
    side: Leaning = "bull" if value > 0 else "bear"
    word = "positive" if value > 0 else "negative"
    return Fact("macd", side, (f"a {word} MACD histogram of {text}", f"a {word} MACD histogram ({text})"))


def _sign(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    value = context.get("macd_hist") or 0.0
    word = first_group(match, "word", "other", "place")
    return value != 0 and (value > 0) == (word in ("positive", "bullish", "above"))


FIELD = Field(
    name="macd",
    order=30,
    source="MACD histogram, Appel: EMA(12) - EMA(26), minus its EMA(9), by TA-Lib, in price units",
    keys=(number_key("macd_hist"),),
    columns=(CandleColumns(("macd_hist",), _compute),),
    display=_display,
    fact=_fact,
    checks=(
        check("macd", rf"\bMACD(?: histogram| hist)?(?:\s+(?:positive|negative))?{CITED}", value_of("macd_hist")),
        check(
            "macd",
            r"\b(?P<word>positive|negative|bullish|bearish) MACD"
            r"|\bMACD(?: histogram| hist)?(?: is| turns| remains| stays)?"
            r" (?P<other>positive|negative|bullish|bearish)\b"
            r"|\bMACD(?: histogram| hist)?(?: is| remains| stays)? (?P<place>above|below) (?:zero|0\b)",
            _sign,
        ),
    ),
    # Relative to the price, which differs between coins by orders.
    features=(Feature("macd_hist", pl.col("macd_hist") / pl.col("close") * 100),),
)
