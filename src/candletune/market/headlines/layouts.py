"""Under which names a format keeps what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

_OWN_TIME: Final = ("seen_at", "fetched_at", "first_seen")


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of a record's fields; of several, the first that a record has counts.

    Attributes:
        name: of the format, as `data.headline_format` has it.
        title: the headline.
        published: when its publisher says that it came out.
        noted: when a service noted it, or it was changed: all of these count, since nobody had this title before.
        required: the times without which a record of this format cannot be used, in words.
        exact: a record that is broken is the user's to mend, so it is refused; of a service's answer it is left out
            and counted.
        html: titles may hold tags and entities.
        polarity: of the title, -1 to 1. A count of votes is none: it was made after the decision.
    """

    name: str
    title: tuple[str, ...]
    published: tuple[str, ...]
    noted: tuple[str, ...]
    required: str
    exact: bool
    html: bool = False
    seen: tuple[str, ...] = _OWN_TIME
    url: tuple[str, ...] = ("original_url", "url", "link")
    source: tuple[str, ...] = ("source", "domain", "publisher")
    tickers: tuple[str, ...] = ("currencies", "instruments", "tickers", "symbols")
    polarity: tuple[str, ...] = ()


_PUBLISHED: Final = (
    *("published_at", "published", "publishedat", "pubdate", "time_published"),
    *("datetime", "date", "timestamp", "time"),
)
_NOTED: Final = ("created_at", "updated_at", "updated")


def _own(name: str) -> Layout:
    return Layout(
        name, ("title", "headline"), _PUBLISHED, _NOTED, "published_at or seen_at", exact=True, polarity=("polarity",)
    )


CSV: Final = _own("csv")
JSON: Final = _own("json")
CRYPTOPANIC: Final = Layout(
    "cryptopanic", ("title",), ("published_at",), ("created_at",), "published_at or created_at", exact=False, html=True
)
GDELT: Final = Layout(
    "gdelt", ("title",), (), ("seendate", "date"), "seendate (in its csv: Date)", exact=False, html=True
)
FEED: Final = Layout(
    "feed", ("title",), ("pubdate", "published"), ("updated",), "pubDate, published or updated", exact=False, html=True
)
LAYOUTS: Final[Mapping[str, Layout]] = {layout.name: layout for layout in (CSV, JSON, CRYPTOPANIC, GDELT, FEED)}
LOOKED_AT: Final = 50
"""Records by which a format is told."""
CONTAINERS: Final = ("results", "articles", "entries", "items", "posts", "news", "headlines", "feed", "data")
"""Where an answer keeps its records."""


def layout_of(records: Iterable[Iterable[str]], *, otherwise: Layout) -> Layout:
    """The format that the first records are of, by their names in lower case: the first that tells."""
    found = (_layout(set(names), otherwise) for names in islice(records, LOOKED_AT))
    return next((layout for layout in found if layout is not otherwise), otherwise)


def _layout(found: set[str], otherwise: Layout) -> Layout:
    if "seendate" in found or {"mobileurl", "url", "date", "title"} <= found:
        return GDELT
    if (
        "title" in found
        and found & {"published_at", "created_at"}
        and found & {"votes", "currencies", "instruments", "panic_score", "slug"}
    ):
        return otherwise if otherwise is CSV else CRYPTOPANIC
    return otherwise


@lru_cache(maxsize=4096)
def _lower(name: str) -> str:
    return name.strip().lower()


def lowered(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its names in lower case: `Title` and `publishedAt` are written in every way."""
    return {_lower(name): value for name, value in record.items()}
