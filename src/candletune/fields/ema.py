"""The exponential means of 9 and 21 candles: which is above, and by how much."""

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
    number_text,
)
from candletune.fields.keys import flag_key, number_key
from candletune.fields.wording import CITED, first_group, value_of

PERIODS = (9, 21)


def _compute(candles: pl.DataFrame, _: int) -> dict[str, pl.Series]:
    fast, slow = (talib.EMA(candles["close"].to_numpy(), period) for period in PERIODS)
    return {
        "ema_fast": pl.Series(fast),
        "ema_slow": pl.Series(slow),
        "ema_gap_pct": pl.Series((fast / slow - 1) * 100),
        "ema_bullish": pl.Series(fast > slow),
    }


def _display(context: Context) -> Shown:
    bullish, gap = context.get("ema_bullish"), number_text(context.get("ema_gap_pct"), "+.2f", "%")
    words = NOT_AVAILABLE if bullish is None else f"{'bullish' if bullish else 'bearish'} (gap {gap})"
    return {"ema": words, "ema_bullish": bullish, "ema_gap_pct": gap}


def _fact(context: Context, shown: Shown) -> Fact | None:
    if context.get("ema_bullish") is None or context.get("ema_gap_pct") is None:
        return None
    gap = shown["ema_gap_pct"]
    side: Leaning = "bull" if context["ema_bullish"] else "bear"
    word, place = ("bullish", "above") if context["ema_bullish"] else ("bearish", "below")
    phrases = (
        f"a {word} EMA crossover with a gap of {gap}",
        f"a {word} EMA gap of {gap}",
        f"the fast EMA {place} the slow one (gap {gap})",
    )
    return Fact("ema", side, phrases)


def _cross(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    bullish = context.get("ema_bullish")
    return bullish is not None and bool(bullish) == (
        first_group(match, "word", "other", "place") in ("bullish", "above")
    )


FIELD = Field(
    name="ema",
    order=40,
    source="EMA(9) and EMA(21) by TA-Lib, in price units; the gap in % of the slow one",
    keys=(flag_key("ema_bullish"), number_key("ema_gap_pct")),
    columns=(CandleColumns(("ema_fast", "ema_slow", "ema_gap_pct", "ema_bullish"), _compute),),
    display=_display,
    fact=_fact,
    checks=(
        check("gap", rf"\bgap{CITED}\s*%", value_of("ema_gap_pct")),
        check(
            "ema cross",
            r"\b(?P<word>bullish|bearish) (?:EMA|(?:moving average )?cross(?:over)?\b)"
            r"|\bEMAs?(?: cross(?:over)?| trend| alignment)?(?: is| are| remains?| stays?)?"
            r" (?P<other>bullish|bearish)\b"
            r"|\bfast EMA (?:is )?(?P<place>above|below) the slow",
            _cross,
        ),
    ),
    features=(Feature("ema_gap_pct", pl.col("ema_gap_pct")),),
)
