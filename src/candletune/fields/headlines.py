"""The newest titles of the last hours."""

import re

import polars as pl

from candletune.config import DataConfig
from candletune.fields.field import Context, ContextColumns, Field, Shown, check
from candletune.fields.keys import headlines_key
from candletune.market.sentiment import NEUTRAL_NEWS, NO_HEADLINES, Sentiment, add_headlines

QUOTED = r"\bheadlines?\b[^\"“”.!?]{0,40}[\"“](?P<title>[^\"“”]+)[\"”]"
"""A title in a reason: the word headline, and words in double quotes behind it."""
_MOODS = {
    **dict.fromkeys(("positive", "bullish", "upbeat"), "positive"),
    **dict.fromkeys(("negative", "bearish", "gloomy"), "negative"),
    "neutral": NEUTRAL_NEWS,
    "mixed": NEUTRAL_NEWS,
}


def _join(rows: pl.DataFrame, sentiment: Sentiment, data: DataConfig) -> pl.DataFrame:
    return add_headlines(rows, sentiment.headlines, data)


def _display(context: Context) -> Shown:
    return {"headlines": context.get("headlines") or NO_HEADLINES}


def plain(text: str) -> str:
    """Words and digits alone, in lower case: how a title is compared."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _is_shown(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    """A title as it is shown, or whole words of one; the dots of a shortened one may be left out."""
    cited = plain(match["title"])
    titles = [plain(title) for title in str(shown["headlines"]).split(" | ") if title != NO_HEADLINES]
    return bool(cited) and any(f" {cited} " in f" {title} " for title in titles)


def _leans(match: "re.Match[str]", _: Context, shown: Shown) -> bool:
    """The direction that headlines are said to have: the mood that the prompt shows, and there must be headlines."""
    mood = _MOODS[match["word"].lower()]
    return str(shown["headlines"]) != NO_HEADLINES and mood == str(shown["news_sentiment"]).lower()


FIELD = Field(
    name="headlines",
    order=100,
    source="the newest `data.headline_count` titles of the last `data.headline_hours`, newest first; else N/A",
    keys=(headlines_key("headlines"),),
    columns=(ContextColumns(("headlines",), "headlines", _join),),
    display=_display,
    checks=(
        check("headline", QUOTED, _is_shown),
        check("headline", rf"\b(?P<word>{'|'.join(_MOODS)}) headlines?\b", _leans),
    ),
)
