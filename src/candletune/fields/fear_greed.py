"""The Fear & Greed index of alternative.me, or its neutral placeholder."""

import re

import polars as pl

from candletune.config import DataConfig
from candletune.fields.field import Context, ContextColumns, Fact, Field, Leaning, Shown, check
from candletune.fields.keys import number_key, text_key
from candletune.fields.wording import CITED, value_of
from candletune.market.sentiment import NEUTRAL_FEAR_GREED, Sentiment, add_fear_greed, fear_greed_class


def _join(rows: pl.DataFrame, sentiment: Sentiment, _: DataConfig) -> pl.DataFrame:
    return add_fear_greed(rows, sentiment.fear_greed)


def _display(context: Context) -> Shown:
    value = context.get("fear_greed")
    value = NEUTRAL_FEAR_GREED if value is None else value
    return {
        "fear_greed": f"{value:.0f}",
        "fear_greed_class": context.get("fear_greed_class") or fear_greed_class(value),
    }


def _fact(context: Context, shown: Shown) -> Fact | None:
    """Mood, read with the crowd: fear weighs, greed lifts. The neutral placeholder is no fact."""
    word, value = shown["fear_greed_class"], shown["fear_greed"]
    if context.get("fear_greed") is None or word == "Neutral":
        return None
    side: Leaning = "bear" if "Fear" in word else "bull"
    return Fact("fear_greed", side, (f"a Fear & Greed index of {value} ({word})", f"Fear & Greed at {value} ({word})"))


def _mood(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    return (match["word"] or match["mark"]).lower() == str(shown["fear_greed_class"]).lower()


FIELD = Field(
    name="fear_greed",
    order=80,
    source="the index published last, at most 2 days old (alternative.me, 0 to 100); else 50, Neutral",
    keys=(
        number_key("fear_greed", 0, 100, whole=True, placeholder=NEUTRAL_FEAR_GREED),
        text_key("fear_greed_class", example="Neutral", placeholder=fear_greed_class(NEUTRAL_FEAR_GREED)),
    ),
    columns=(ContextColumns(("fear_greed", "fear_greed_class"), "fear_greed", _join),),
    display=_display,
    fact=_fact,
    checks=(
        check("greed", rf"\bFear (?:&|and) Greed(?: index)?{CITED}", value_of("fear_greed")),
        check(
            "fear greed",
            r"\b(?P<word>extreme (?:fear|greed))\b(?!\))"
            r"|\bFear (?:&|and) Greed(?: index)?[^();]{0,12}\d \((?P<mark>[a-z ]+)\)",
            _mood,
        ),
    ),
)
