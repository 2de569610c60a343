"""Three headlines as each format has them, the third told twice; values invented, shapes as they are met."""

import json
from pathlib import Path

CSV = """published_at,polarity,source,url,currencies,title
2024-01-01T08:15:00Z,0.4,Wire,https://a.example/1,BTC,Exchange lists coin
2024-01-01 10:00:00+02:00,-0.3,Wire,https://a.example/2,"ETH, SOL",Bridge loses funds
2024-01-01T09:00:00Z,-0.3,Other,https://b.example/7,ETH,BREAKING: The bridge loses funds!
"""
_POSTS = [
    {
        "kind": "news",
        "domain": "wire.example",
        "source": {"title": "Wire", "region": "en", "domain": "wire.example", "path": None},
        "title": "Exchange &amp; broker list <b>coin</b>",
        "published_at": "2024-01-01T08:10:00Z",
        "created_at": "2024-01-01T08:15:00Z",
        "currencies": [{"code": "BTC", "title": "Bitcoin", "slug": "bitcoin", "url": "https://panic.example/btc"}],
        "id": 1,
        "url": "https://panic.example/1",
        "votes": {"negative": 0, "positive": 9, "important": 2},
    },
    {
        "kind": "news",
        "title": "Bridge loses funds",
        "published_at": "2024-01-01T08:00:00Z",
        "created_at": "2024-01-01T08:00:00.123456Z",
        "currencies": None,
        "id": 2,
        "url": "https://panic.example/2",
        "votes": {"negative": 5, "positive": 0, "important": 2},
    },
    {
        "kind": "media",
        "title": "Bridge loses funds",
        "published_at": "2024-01-01T09:00:00Z",
        "created_at": "2024-01-01T09:00:00Z",
        "instruments": [{"code": "ETH", "title": "Ethereum"}],
        "id": 3,
        "url": "https://panic.example/3",
    },
]
CRYPTOPANIC = json.dumps({"count": 3, "next": None, "previous": None, "results": _POSTS}, indent=1)
PAGES = "\n".join(json.dumps({"count": 3, "next": None, "results": part}) for part in (_POSTS[:2], _POSTS[2:]))
"""Two pages, a line each."""
GDELT = json.dumps(
    {
        "articles": [
            {
                "url": f"https://www.{site}/a?utm_source=x",
                "url_mobile": "",
                "title": title,
                "seendate": seen,
                "socialimage": "",
                "domain": site,
                "language": "English",
                "sourcecountry": "United States",
            }
            for site, title, seen in (
                ("a.example", "Exchange lists coin : report", "20240101T081500Z"),
                ("b.example", "Bridge loses funds", "20240101T080000Z"),
                ("b.example", "Bridge loses $ 5 , 000 , 000", "20240101T090000Z"),
            )
        ]
    }
)
GDELT_CSV = """URL,MobileURL,Date,Title
https://a.example/a,,2024-01-01 08:15:00,Exchange lists coin : report
https://b.example/a,,2024-01-01 08:00:00,Bridge loses funds
https://b.example/a,,2024-01-01 09:00:00,"Bridge loses $ 5 , 000 , 000"
"""
RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel><title>Wire</title><link>https://a.example</link><lastBuildDate>Mon, 01 Jan 2024 12:00:00 GMT</lastBuildDate>
<item><media:title>A picture</media:title><title><![CDATA[Exchange lists coin]]></title>
  <link>https://a.example/1</link><pubDate>Mon, 01 Jan 2024 03:15:00 EST</pubDate></item>
<item><title>Bridge loses funds &amp;amp; halts</title><link>https://a.example/2</link>
  <dc:date>2024-01-01T08:00:00Z</dc:date></item>
<item><title>Bridge loses funds &amp;amp; halts - Wire</title><source url="https://a.example">Wire</source>
  <link>https://b.example/9</link><pubDate>Mon, 01 Jan 2024 09:00:00 +0000</pubDate></item>
</channel></rss>
"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Wire</title><updated>2024-01-01T12:00:00Z</updated>
<entry><title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Exchange <b>lists</b> coin</div></title>
  <link rel="self" href="https://a.example/feed"/><link href="https://a.example/1"/>
  <published>2024-01-01T08:00:00Z</published><updated>2024-01-01T08:15:00Z</updated></entry>
<entry><title type="html">Bridge loses &lt;b&gt;funds&lt;/b&gt;</title><link href="https://a.example/2"/>
  <updated>2024-01-01T09:00:00+01:00</updated><source><title>Not this one</title></source></entry>
<entry><title>Bridge loses funds</title><updated>2024-01-01T09:00:00Z</updated></entry>
</feed>
"""
FILES = {
    "csv": CSV,
    "cryptopanic": CRYPTOPANIC,
    "pages": PAGES,
    "gdelt": GDELT,
    "gdelt csv": GDELT_CSV,
    "rss": RSS,
    "atom": ATOM,
}
"""By name; each tells at 08:00 and 08:15, in UTC."""


def written(folder: Path, name: str, content: str | bytes) -> Path:
    """The content in a file; its suffix says nothing."""
    path = folder / f"{name.replace(' ', '-')}.dump"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
