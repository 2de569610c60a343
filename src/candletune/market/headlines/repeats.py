"""The same story told again: the first telling stays.

Two headlines are of one story when their addresses are the same, or their titles are, read without capitals,
punctuation, articles, the publisher's name behind them and words such as "breaking" before them. How many words two
titles share is no sign: half of those that share four in five are series ("Price analysis 1/12: BTC, ETH, ..."), and
"approves" for "denies" is another story.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from candletune.market.headlines.records import Headline

Repeat = Literal["url", "title"]
_WORD: Final = re.compile(r"\w+")
_ARTICLES: Final = frozenset(("a", "an", "the"))
_OPENINGS: Final = (("breaking", "news"), ("just", "in"), ("breaking",), ("update",), ("exclusive",))
"""The longer ones first."""
_OPENING_WORDS: Final = frozenset(opening[0] for opening in _OPENINGS)
_SEPARATOR: Final = re.compile(r"\s+[-–—/]\s+")
_TRACKING: Final = re.compile(r"utm_|mtm_|fbclid$|gclid$|ref$|src$", re.IGNORECASE)


def story_key(title: str, source: str) -> tuple[str, ...]:
    """What a title comes to: its words without what differs from feed to feed.

    Args:
        title: uncut.
        source: the publisher's name, which some feeds put behind the title.
    """
    words = _words(title)
    if source:
        *rest, last = _SEPARATOR.split(title)
        if rest and _words(last) == _words(source) != ():
            words = _words(title[: title.rindex(last)])
    if words and words[0] in _OPENING_WORDS:
        behind = next((len(one) for one in _OPENINGS if words[: len(one)] == one and len(words) > len(one)), 0)
        words = words[behind:]
    return tuple(word for word in words if word not in _ARTICLES) or words


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def address(url: str) -> str:
    """An article's address without scheme, `www.`, fragment, and what only says where the reader came from."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError:  # brackets that are no IPv6 address; thousands of fields; half a character
        return ""
    if not parts.netloc:
        return ""
    kept = sorted(f"{key}={value}" for key, value in query if not _TRACKING.match(key))
    return f"{parts.netloc.lower().removeprefix('www.')}{parts.path.rstrip('/')}?{'&'.join(kept)}"


def first_tellings(headlines: Iterable[Headline], window: timedelta) -> list[Repeat | None]:
    """Of each headline in the order in which they could be known: whether it repeats a story, and by what.

    A story lasts from its first telling on; address and title of every repeat are its own, too. A headline is compared
    with what came before it alone, so that what comes later changes nothing.

    Args:
        headlines: ascending.
        window: how long a story is remembered; zero: nothing repeats anything.
    """
    found: list[Repeat | None] = []
    addresses: dict[str, datetime] = {}
    titles: dict[tuple[str, ...], datetime] = {}
    for headline in headlines:
        own, key, now = address(headline.url), story_key(headline.whole, headline.source), headline.known_at
        begun = {"url": addresses.get(own), "title": titles.get(key)}
        fresh: dict[Repeat, datetime] = {by: at for by, at in begun.items() if at is not None and now - at <= window}  # type: ignore[misc]
        repeat = next(iter(fresh), None) if window else None
        found.append(repeat)
        story = now if repeat is None else fresh[repeat]
        if "title" not in fresh:
            titles[key] = story
        if own and "url" not in fresh:
            addresses[own] = story
    return found
