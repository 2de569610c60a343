"""The same story told again is left out: what is the same, for how long, and that later headlines change nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from candletune.market.headlines.records import Headline
from candletune.market.headlines.repeats import address, first_tellings, story_key

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def told(hours: float, title: str, url: str = "", source: str = "") -> Headline:
    at = NOON + timedelta(hours=hours)
    return Headline(at, title, title, 0.0, url, source, (), assumed_utc=False, whole_day=False, seen=False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Exchange lists coin", "EXCHANGE lists the coin!", True),
        ("Exchange lists coin", "BREAKING: Exchange lists coin", True),
        ("Exchange lists coin", "Just in - exchange lists a coin", True),
        ("Exchange lists coin", "Exchange lists coin - Wire", True),
        ("Exchange lists coin", "Exchange lists coin – wire", True),
        ("Coin’s price", "Coin 's price", True),
        ("The", "A", False),
        ("Exchange lists coin", "Exchange lists coin - Other", False),
        ("Regulator approves fund", "Regulator denies fund", False),
        ("Price falls below 20,000", "Price falls below 30,000", False),
        ("A flips B", "B flips A", False),
        ("Weekly 1/12: BTC, ETH, SOL, XRP, ADA, DOT, LEO", "Weekly 1/14: BTC, ETH, SOL, XRP, ADA, DOT, LEO", False),
    ],
)
def test_titles(one: str, other: str, same: bool) -> None:
    assert (story_key(one, "Wire") == story_key(other, "Wire")) is same


def test_a_title_that_is_its_publisher_alone_keeps_its_words() -> None:
    assert story_key("Wire", "Wire") == ("wire",)
    assert story_key("Today on - Wire - Wire", "Wire") == ("today", "on", "wire")
    assert story_key("???", "") == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://www.a.example/x/", "http://a.example/x?utm_source=feed&fbclid=1#top", True),
        ("https://a.example/x?id=1&p=2", "https://A.example/x?p=2&id=1", True),
        ("https://a.example/x?id=1", "https://a.example/x?id=2", False),
        ("https://a.example/x", "https://b.example/x", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    assert (address(one) == address(other)) is same
    assert address("no address") == address("https://[half") == ""


def test_the_first_telling_stays_and_is_forgotten_after_the_window() -> None:
    rows = [
        told(0, "A", "https://x.example/1"),
        told(1, "A"),
        told(2, "B", "https://x.example/1"),
        told(3, ""),
        told(5, "A"),
        told(6.5, "A", "https://x.example/1"),
        told(7, "C"),
    ]
    assert first_tellings(rows, timedelta(hours=6)) == [None, "title", "url", None, "title", None, None]
    assert first_tellings(rows, timedelta(0)) == [None] * 7
    # What comes later changes nothing of what came before.
    for count in range(len(rows)):
        assert first_tellings(rows[:count], timedelta(hours=6)) == first_tellings(rows, timedelta(hours=6))[:count]


def test_an_address_lives_as_long_as_the_headline_that_was_kept_with_it() -> None:
    """Two headlines without an address share none."""
    assert first_tellings([told(0, "A"), told(1, "B")], timedelta(hours=6)) == [None, None]
