"""The mood of the last hours' headlines, or its neutral placeholder."""

import re

import polars as pl

from candletune.config import DataConfig
from candletune.fields.field import Context, ContextColumns, Fact, Field, Leaning, Shown, check
from candletune.fields.keys import number_key, text_key
from candletune.fields.wording import CITED, value_of
from candletune.market.sentiment import NEUTRAL_NEWS, Sentiment, add_news_mood


def _join(rows: pl.DataFrame, sentiment: Sentiment, data: DataConfig) -> pl.DataFrame:
    return add_news_mood(rows, sentiment.headlines, data)


def _display(context: Context) -> Shown:
    confidence = context.get("sentiment_confidence")
    return {
        "news_sentiment": context.get("news_sentiment") or NEUTRAL_NEWS,
        "sentiment_confidence": f"{0.0 if confidence is None else confidence:.2f}",
    }


def _fact(context: Context, shown: Shown) -> Fact | None:
    word = context.get("news_sentiment")
    if word not in ("positive", "negative"):
        return None
    side: Leaning = "bull" if word == "positive" else "bear"
    return Fact("news", side, (f"{word} news sentiment (confidence {shown['sentiment_confidence']})",))


def _mood(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    return (match["word"] or match["other"]).lower() == str(shown["news_sentiment"]).lower()


FIELD = Field(
    name="news",
    order=90,
    source="mean polarity of the headlines of the last `data.headline_hours`; else neutral, 0",
    keys=(
        text_key("news_sentiment", example="positive", placeholder=NEUTRAL_NEWS),
        number_key("sentiment_confidence", 0, 1, placeholder=0.0),
    ),
    columns=(ContextColumns(("news_sentiment", "sentiment_confidence"), "headlines", _join),),
    display=_display,
    fact=_fact,
    checks=(
        check(
            "news",
            r"\b(?P<word>positive|negative|neutral) news"
            r"|\bnews(?: sentiment)?(?: is| remains)? (?P<other>positive|negative|neutral)\b",
            _mood,
        ),
        check("confidence", rf"\bconfidence{CITED}", value_of("sentiment_confidence")),
    ),
)
