"""The same story told again: the first telling stays.

Two headlines are of one story when their addresses are the same, or their titles are, read without capitals,
punctuation, articles, the publisher's name behind them and words such as "breaking" before them. How many words two
titles share is no sign: half of those that share four in five are series ("Price analysis 1/12: BTC, ETH, ..."), and
"approves" for "denies" is another story.
"""

import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from candletune.market.headlines.records import Headline

Repeat = Literal["url", "title"]
_WORD: Final = re.compile(r"\w+")
_ARTICLES: Final = frozenset(("a", "an", "the"))
_OPENINGS: Final = (("breaking",), ("just", "in"), ("breaking", "news"), ("update",), ("exclusive",))
_SEPARATOR: Final = re.compile(r"\s+[-–—/]\s+")
_TRACKING: Final = re.compile(r"utm_|mtm_|fbclid$|gclid$|ref$|src$", re.IGNORECASE)


def story_key(title: str, source: str) -> tuple[str, ...]:
    """What a title comes to: its words without what differs from feed to feed.

    Args:
        title: uncut.
        source: the publisher's name, which some feeds put behind the title.
    """
    head, tail = title, _words(source)
    *rest, last = _SEPARATOR.split(title)
    if rest and tail and _words(last) == tail:
        head = title[: title.rindex(last)]
    words = _words(head)
    for opening in sorted(_OPENINGS, key=len, reverse=True):
        if words[: len(opening)] == opening and len(words) > len(opening):
            words = words[len(opening) :]
            break
    return tuple(word for word in words if word not in _ARTICLES) or words


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def address(url: str) -> str:
    """An article's address without scheme, `www.`, fragment, and what only says where the reader came from."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no IPv6 address
        return ""
    if not parts.netloc:
        return ""
    query = [(key, value) for key, value in parse_qsl(parts.query) if not _TRACKING.match(key)]
    host = parts.netloc.lower().removeprefix("www.")
    return f"{host}{parts.path.rstrip('/')}?{urlencode(sorted(query))}"


def first_tellings(headlines: Iterable[Headline], window: timedelta) -> list[Repeat | None]:
    """Of each headline in the order in which they could be known: whether it repeats one that was kept, and how.

    A headline is compared with those kept in the window before it, so that what comes later changes nothing.

    Args:
        headlines: ascending.
        window: how long a story is remembered; zero: nothing repeats anything.
    """
    found: list[Repeat | None] = []
    kept: deque[tuple[datetime, str, tuple[str, ...]]] = deque()
    addresses: set[str] = set()
    keys: set[tuple[str, ...]] = set()
    for headline in headlines:
        while kept and headline.known_at - kept[0][0] > window:
            _, old_address, old_key = kept.popleft()
            addresses.discard(old_address)
            keys.discard(old_key)
        own, key = address(headline.url), story_key(headline.whole, headline.source)
        repeat: Repeat | None = "url" if own and own in addresses else "title" if key in keys else None
        found.append(repeat if window else None)
        if repeat is None and window:
            kept.append((headline.known_at, own, key))
            addresses.add(own)
            keys.add(key)
    return found
