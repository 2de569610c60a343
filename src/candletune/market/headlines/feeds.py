"""RSS (0.9x, 1.0, 2.0) and Atom, by expat: an entity of the file's own is refused, nothing outside is ever read."""

from collections.abc import Iterator
from typing import Any, Final
from xml.parsers import expat

_ATOM: Final = "http://www.w3.org/2005/Atom"
_RSS: Final = (
    "",
    "http://purl.org/rss/1.0/",
    "http://my.netscape.com/rdf/simple/0.9/",
    "http://backend.userland.com/rss2",
)
_DUBLIN_CORE: Final = "http://purl.org/dc/elements/1.1/"
_ROOTS: Final = ("rss", "RDF", "feed")
_DEEPEST: Final = 100
_LONGEST: Final = 20_000
"""Characters kept of one element."""
_FIELDS: Final = (
    {f"{space} {name}".strip(): name.lower() for space in _RSS for name in ("title", "link", "pubDate", "source")}
    | {f"{_ATOM} {name}": name for name in ("title", "published", "updated")}
    | {f"{_DUBLIN_CORE} date": "pubdate"}
)
"""An element's namespace and name -> the record's name. A picture's title (`media:title`) is none of these."""
_ITEMS: Final = frozenset({*(f"{space} item".strip() for space in _RSS), f"{_ATOM} entry"})


class NotAFeed(ValueError):
    """What is wrong, and where."""


class _Reader:
    """Collects the direct children of each item."""

    def __init__(self) -> None:
        self.records: list[dict[str, str]] = []
        self.depth = 0
        self.item: int | None = None
        self.field: str | None = None
        self.text: list[str] = []
        self.room = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise NotAFeed(f"elements lie more than {_DEEPEST} deep in one another")
        if self.depth == 1 and name.rsplit(" ", 1)[-1] not in _ROOTS:
            raise NotAFeed(f"its first element is <{name.rsplit(' ', 1)[-1][:40]}>, not <rss>, <rdf:RDF> or <feed>")
        if self.item is None:
            if name in _ITEMS:
                self.records.append({})
                self.item = self.depth
        elif self.depth == self.item + 1:
            self.field, self.text, self.room = _FIELDS.get(name), [], _LONGEST
            if name == f"{_ATOM} link" and attributes.get("rel", "alternate") == "alternate":
                self.records[-1].setdefault("link", attributes.get("href", ""))

    def data(self, text: str) -> None:
        if self.field is not None and self.room > 0:
            self.text.append(text[: self.room])
            self.room -= len(text)

    def end(self, _: str) -> None:
        if self.item is not None and self.depth == self.item + 1 and self.field is not None:
            self.records[-1].setdefault(self.field, "".join(self.text).strip())
            self.field = None
        if self.depth == self.item:
            self.item = None
        self.depth -= 1


def _refuse_entity(*_: Any) -> None:
    raise NotAFeed("it declares an entity of its own, which a feed never needs; take the DOCTYPE out")


def _refuse_namespace(_: str | None, address: str | None) -> None:
    if address and "}" in address:  # an address has none, and many readers of XML refuse it
        raise NotAFeed(f"the namespace {address[:60]!r} is no address")


def feed_records(data: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """Each item with its place, in the file's order; `title`, `pubdate`, `published`, `updated`, `link`, `source`.

    Raises:
        NotAFeed: it is not well-formed, or no feed.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.EntityDeclHandler = _refuse_entity
    parser.StartNamespaceDeclHandler = _refuse_namespace
    try:
        parser.Parse(data, True)
    except NotAFeed as error:
        raise NotAFeed(f"line {parser.CurrentLineNumber}: {error}") from None
    except expat.ExpatError as error:
        raise NotAFeed(f"line {error.lineno}: not well-formed XML ({expat.ErrorString(error.code)})") from None
    except (ValueError, LookupError):  # an encoding that is none, or that expat cannot use
        raise NotAFeed("its encoding is not known; save it as UTF-8") from None
    return ((f"item {number}", record) for number, record in enumerate(reader.records, 1))
