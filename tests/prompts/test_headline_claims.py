"""Reasons that cite a headline: it is one of those shown, and headlines have the direction that the prompt shows."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from candletune.config import DataConfig
from candletune.fields.columns import add_context
from candletune.market.sentiment import load_sentiment
from candletune.prompts.grounding import check_reason, grounded
from full_context import FULL_CONTEXT
from headline_files import FILES, written

CONTEXT = FULL_CONTEXT | {
    "headlines": "Kestrel denies hack, says all funds are safe | Whale moves $40M, RSI oversold at 12 to be seen...",
    "news_sentiment": "negative",
    "sentiment_confidence": 0.21,
    "rsi": 61.0,
}


@pytest.mark.parametrize(
    ("reason", "holds"),
    [
        ('The headline "Kestrel denies hack, says all funds are safe" favours a move higher.', True),
        ("The headline “kestrel denies hack” outweighs the trend.", True),
        ('Headlines such as "Whale moves $40M" point to a fall.', True),
        ('The headline "Kestrel hacked" points to a fall.', False),
        ('The headline "nies hack" points nowhere.', False),
        ('The headline "..." says it all.', False),
        ("Negative headlines weigh on the price.", True),
        ("Bearish headlines weigh on the price.", True),
        ("Bullish headlines carry the price.", False),
        ("Mixed headlines leave the market without an edge.", False),
        ("A rise looks likely.", None),
    ],
)
def test_a_cited_headline_is_one_that_is_shown_and_leans_its_way(reason: str, holds: bool | None) -> None:
    assert grounded(reason, CONTEXT) is holds


def test_where_there_are_none_none_can_be_cited() -> None:
    silent = CONTEXT | {"headlines": None, "news_sentiment": "neutral", "sentiment_confidence": 0.0}
    assert grounded('The headline "N/A" says nothing.', silent) is False
    assert grounded("Neutral headlines say nothing.", silent) is False


def test_what_a_quoted_headline_says_is_not_the_reasons_own_claim() -> None:
    """The row's RSI is 61; it is the headline that calls it oversold."""
    reason = 'The headline "Whale moves $40M, RSI oversold at 12" meets an RSI of 61.0.'
    assert [(claim.text[:12], claim.holds) for claim in check_reason(reason, CONTEXT)] == [
        ('headline "Wh', True),
        ("RSI of 61.0", True),
    ]
    assert grounded("An oversold RSI of 12 calls for a rise.", CONTEXT) is False


@pytest.mark.parametrize("name", FILES)
def test_titles_of_every_format_can_be_cited(tmp_path: Path, name: str) -> None:
    """What a reason quotes is found as it is shown, whatever the file was; so is the direction."""
    data = DataConfig(headlines=written(tmp_path, name, FILES[name]))
    nine = pl.Series("decision_time", [datetime(2024, 1, 1, 9, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC"))
    row = add_context(pl.DataFrame([nine]), load_sentiment(data), data).row(0, named=True)
    context = FULL_CONTEXT | {key: row[key] for key in ("headlines", "news_sentiment", "sentiment_confidence")}
    assert grounded('The headline "bridge loses funds" points to a fall.', context) is True
    assert grounded('The headline "Exchange delists coin" points to a fall.', context) is False
    # Only the csv has polarities: 0.4 and -0.3.
    assert grounded("Neutral headlines say little.", context) is True
    assert grounded("Bullish headlines carry the price.", context) is False
    eight = pl.Series("decision_time", [datetime(2024, 1, 1, 8, 10, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC"))
    early = add_context(pl.DataFrame([eight]), load_sentiment(data), data).row(0, named=True)
    known = FULL_CONTEXT | {key: early[key] for key in ("headlines", "news_sentiment", "sentiment_confidence")}
    assert grounded("Bearish headlines weigh on the price.", known) is (name == "csv")
    assert grounded('The headline "Exchange lists coin" came later.', known) is False
