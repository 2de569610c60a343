"""The change of the price over 24 hours."""

import re

import polars as pl

from candletune.fields.field import CandleColumns, Context, Fact, Feature, Field, Shown, check, number_text
from candletune.fields.keys import number_key
from candletune.fields.wording import CITED, same_number

FLAT = 0.5
"""Changes within this many percent read as flat."""
_FALL = r"loss|drop|decline|fall|dip|decrease"
_RISE = r"gain|rise|increase|advance|rally"


def _compute(_: pl.DataFrame, day: int) -> dict[str, pl.Expr]:
    # Across a gap the row `day` candles back is older than a day: no change is better than a wrong one.
    whole = pl.col("date") - pl.col("date").shift(day) == pl.duration(days=1)
    return {"change_24h": pl.when(whole).then((pl.col("close") / pl.col("close").shift(day) - 1) * 100)}


def _display(context: Context) -> Shown:
    return {"change_24h": number_text(context.get("change_24h"), "+.2f", "%")}


def _fact(context: Context, shown: Shown) -> Fact | None:
    change, text = context.get("change_24h"), shown["change_24h"]
    if change is None:
        return None
    if abs(change) < FLAT:
        return Fact("change", "neutral", (f"a flat 24h change of {text}", f"a quiet 24h change of {text}"))
    size = text.lstrip("+-")
    if change > 0:
        return Fact("change", "bull", (f"a 24h gain of {size}", f"a 24h rise of {size}", f"a 24h change of {text}"))
    return Fact("change", "bear", (f"a 24h loss of {size}", f"a 24h drop of {size}", f"a 24h change of {text}"))


def _word(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    change = context.get("change_24h")
    if change is None:
        return False
    if match["flat"]:
        return bool(abs(change) < FLAT)
    return bool(change > 0) if re.fullmatch(_RISE, match["word"]) else bool(change < 0)


def _value(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    cited, text = match["value"], str(shown["change_24h"])
    # "a 24h loss of 0.71%" carries its sign in the noun, which `_word` judges.
    signed = cited[0] in "+-" or match["noun"] == "change"
    return same_number(cited, text if signed else text.lstrip("+-"), match["about"])


FIELD = Field(
    name="change",
    order=60,
    source="% against the close of exactly 24 hours before; unknown where that candle is missing",
    keys=(number_key("change_24h"),),
    columns=(CandleColumns(("change_24h",), _compute),),
    display=_display,
    fact=_fact,
    checks=(
        check("24h", rf"\b24h (?P<word>{_FALL}|{_RISE})\b|\b(?P<flat>flat|quiet) 24h", _word),
        check("24h", rf"\b24h (?P<noun>change|{_FALL}|{_RISE}){CITED}\s*%", _value),
    ),
    features=(Feature("change_24h", pl.col("change_24h")),),
)
