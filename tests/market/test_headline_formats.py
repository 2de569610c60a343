"""Headlines in the formats that people have: what is read, from when it counts, and what is said of the rest."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from candletune.config import DataConfig
from candletune.dataset.own_headlines import own_headlines
from candletune.errors import InputError
from candletune.market.headlines import Headlines, read_headlines
from headline_files import ATOM, CRYPTOPANIC, CSV, FILES, GDELT, RSS, written

DAY = datetime(2024, 1, 1, tzinfo=UTC)
EIGHT, QUARTER = DAY.replace(hour=8), DAY.replace(hour=8, minute=15)


def read(path: Path, **settings: Any) -> Headlines:
    """What is read, with no delay unless one is set; the audit's own reading finds the same."""
    data = DataConfig(**{"headlines": path, "headline_delay": 0} | settings)
    found = read_headlines(path, data)
    own = [(one.at, one.title, one.polarity) for one in own_headlines(path, data)]
    assert own == list(found.frame.select("known_at", "title", "polarity").iter_rows())
    return found


@pytest.mark.parametrize("name", FILES)
def test_each_format_tells_the_same_at_the_same_time(tmp_path: Path, name: str) -> None:
    found = read(written(tmp_path, name, FILES[name]))
    assert found.frame["known_at"].to_list()[1:] == [QUARTER]
    assert timedelta(0) <= found.frame["known_at"][0] - EIGHT < timedelta(seconds=1)
    assert [title.split()[0] for title in found.frame["title"]] == ["Bridge", "Exchange"]
    (kind,) = found.counts.formats
    assert kind == {"pages": "cryptopanic", "rss": "feed", "atom": "feed", "gdelt csv": "gdelt"}.get(name, name)
    assert found.counts.formats[kind].records == 3
    assert found.counts.kept == 2
    assert found.counts.repeated_urls + found.counts.repeated_titles == 1


def test_titles_tickers_and_polarity(tmp_path: Path) -> None:
    table = read(written(tmp_path, "a", CRYPTOPANIC)).frame
    assert table["title"].to_list() == ["Bridge loses funds", "Exchange & broker list coin"]
    assert table["tickers"].to_list() == ["", "BTC"]
    assert table["polarity"].to_list() == [0, 0]  # votes are counted later, and never read
    assert read(written(tmp_path, "b", CSV)).frame["tickers"].to_list() == ["ETH SOL", "BTC"]
    assert read(written(tmp_path, "b", CSV)).frame["polarity"].to_list() == [-0.3, 0.4]
    assert read(written(tmp_path, "c", ATOM)).frame["title"].to_list() == ["Bridge loses funds", "Exchange lists coin"]
    assert read(written(tmp_path, "d", RSS)).frame["title"][0] == "Bridge loses funds & halts"


def test_a_folder_is_one_file(tmp_path: Path) -> None:
    """The same story in five feeds is told once, as early as the first had it."""
    for name in ("csv", "pages", "gdelt", "rss", "atom"):
        written(tmp_path, name, FILES[name])
    (tmp_path / ".hidden").write_text("{")
    (tmp_path / "deeper").mkdir()
    written(tmp_path / "deeper", "csv", CSV.replace("08:15", "07:15"))
    found = read(tmp_path)
    assert found.counts.formats["csv"].files == 2
    assert sum(one.records for one in found.counts.formats.values()) == 18
    titles = found.frame["title"].to_list()
    assert len(titles) == len(set(titles)) == found.counts.kept == 4
    assert found.frame["known_at"][0] == QUARTER - timedelta(hours=1)
    assert found.counts.formats["cryptopanic"].records == 3


def records(*entries: Any) -> str:
    return json.dumps(list(entries))


def test_what_is_seen_counts_and_what_is_published_waits(tmp_path: Path) -> None:
    """A file's own time of fetching counts as it stands; every other time is what somebody else says."""
    title = {"title": "A"}
    published, later = {"published_at": "2024-01-01T08:00:00Z"}, "2024-01-01T09:30:00Z"
    for record, wanted in (
        (published, EIGHT + timedelta(minutes=5)),
        (published | {"seen_at": later}, EIGHT + timedelta(minutes=90)),
        (published | {"fetched_at": later}, EIGHT + timedelta(minutes=90)),
        ({"seen_at": later}, EIGHT + timedelta(minutes=90)),
        # A clock that goes wrong shows nothing early.
        (published | {"seen_at": "2024-01-01T07:00:00Z"}, EIGHT),
        # A service had it later than its publisher says, or the title was changed.
        (published | {"created_at": later}, EIGHT + timedelta(minutes=95)),
        (published | {"updated": later}, EIGHT + timedelta(minutes=95)),
    ):
        path = written(tmp_path, "a", records(title | record))
        assert read(path, headline_delay=5).frame["known_at"].to_list() == [wanted], record
    for name in ("cryptopanic", "gdelt", "gdelt csv", "rss", "atom"):
        late = read(written(tmp_path, name, FILES[name]), headline_delay=60 * 24).frame
        assert late["known_at"][-1] == QUARTER + timedelta(days=1), name


@pytest.mark.parametrize(
    ("text", "wanted", "assumed"),
    [
        ("2024-01-01T08:15:00Z", QUARTER, False),
        ("2024-01-01T08:15:00.123456789Z", QUARTER + timedelta(microseconds=123456), False),
        ("2024-01-01 10:15:00 +0200", QUARTER, False),
        ("2024-01-01 08:15:00 UTC", QUARTER, False),
        ("2024-01-01 08:15 GMT", QUARTER, False),
        ("20240101T081500Z", QUARTER, False),
        ("20240101081500", QUARTER, False),
        ("1704096900", QUARTER, False),
        (1704096900, QUARTER, False),
        (1704096900.0, QUARTER, False),
        (1704096900000, QUARTER, False),
        ("Mon, 01 Jan 2024 08:15:00 GMT", QUARTER, False),
        ("Mon, 01 Jan 24 03:15:00 EST", QUARTER, False),
        ("Mon, 01 Jan 2024 08:15:00 -0000", QUARTER, False),
        ("Mon, 01 Jan 2024 08:15:00", QUARTER, True),
        ("2024-01-01T08:15:00", QUARTER, True),
        ("2024-01-01", DAY + timedelta(days=1), None),
        ("20240101", DAY + timedelta(days=1), None),
    ],
)
def test_times(tmp_path: Path, text: Any, wanted: datetime, assumed: bool | None) -> None:
    """Without an offset a time is in UTC; a date alone is over when its day is. Both are counted."""
    found = read(written(tmp_path, "a", records({"title": "A", "published": text})))
    assert found.frame["known_at"].to_list() == [wanted]
    counts = found.counts.formats["json"]
    assert (counts.assumed_utc, counts.whole_days) == {True: (1, 0), False: (0, 0), None: (1, 1)}[assumed]


@pytest.mark.parametrize(
    "text",
    ["soon", "x", "2024", "2024-13-01", "Mon, 01 Jan 2024 08:15:00 AKST", "Mon, 32 Jan 2024 08:15:00 GMT", "9" * 70,
     "0001-01-01T00:00:00+14:00", "1979-12-31T00:00:00Z", "2301-01-01T00:00:00Z", True, [1], {"a": 1}, 12, 1e300,
     10**400, -1704096900, "١٢٣٤٥٦٧٨٩٠"],
)  # fmt: skip
def test_no_times(tmp_path: Path, text: Any) -> None:
    path = written(tmp_path, "a", records({"title": "A", "published": text}))
    with pytest.raises(InputError, match=r"a\.dump: record 1 published is .*; mend or remove it") as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_format_can_be_set(tmp_path: Path) -> None:
    panic = written(tmp_path, "a", CRYPTOPANIC)
    assert list(read(panic, headline_format="cryptopanic").counts.formats) == ["cryptopanic"]
    assert list(read(panic, headline_format="json").counts.formats) == ["json"]
    assert read(panic, headline_format="json").frame["title"][1] == "Exchange &amp; broker list coin"
    for wrong in ("csv", "feed"):
        with pytest.raises(InputError, match=rf"looks like json, but data.headline_format is {wrong}; correct it"):
            read(panic, headline_format=wrong)
    with pytest.raises(InputError, match=r"no headline that could be used \(a.dump: record 1 has no seendate"):
        read(panic, headline_format="gdelt")
    with pytest.raises(InputError, match="no column title"):
        read(written(tmp_path, "b", "seendate,url\n20240101T080000Z,x\n"), headline_format="gdelt")


def test_shapes_of_json(tmp_path: Path) -> None:
    record = {"title": "A", "published_at": "2024-01-01T08:00:00Z"}
    other = record | {"title": "B"}
    line = json.dumps(record)
    for text in (
        records(record, other),
        records([record], [other]),
        json.dumps({"data": [record, other]}),
        records({"articles": [record]}, {}, {"articles": [other]}),
        f"{line}\n\n{json.dumps(other)}\n",
        f"\ufeff{line}\r\n{json.dumps(other)}",
        f"{records(record)}\n{records(other)}\n",
        f"[\n{line},\n{json.dumps(other)}\n]",
        records({"Title": "A", "publishedAt": "2024-01-01T08:00:00Z", "source": {"id": 1, "name": "W"}}, other),
    ):
        found = read(written(tmp_path, "a", text))
        assert found.frame["title"].to_list() == ["A", "B"], text
    assert read(written(tmp_path, "a", line)).frame["title"].to_list() == ["A"]


def broken_json() -> dict[str, tuple[str | bytes, str]]:
    record = {"title": "A", "published_at": "2024-01-01T08:00:00Z"}
    line = json.dumps(record)
    return {
        "nothing": ("", "not a headline file"),
        "no record": ("[]", "no headline that could be used (there are no records); unset data.headlines"),
        "cut off": (GDELT[:300], "line 1: not JSON"),
        "a line cut off": (f"{line}\n{line[:-5]}\n", "line 2: not JSON"),
        "nested deeply": ("[" * 200_000, "nested too deeply; remove it"),
        "a long number": (f'[{{"title": "A", "published_at": {"9" * 5000}}}]', "a number too long"),
        "not UTF-8": (line.encode() + b"\n\xff", "line 2: not UTF-8 (byte 55); save it as UTF-8"),
        "UTF-16": (b"\xff\xfe" + line.encode("utf-16-le"), "line 1: not UTF-8"),
        "a text": (records("A"), "record 1 is a text, not an object; mend or remove it"),
        "null": (records(None), "record 1 is null, not an object"),
        "a number for a title": (records(record | {"title": 5}), "record 1 title is a number, not a text; mend"),
        "a list for a title": (f"{line}\n{json.dumps(record | {'title': []})}", "line 2 title is a list, not a text"),
        "no time": (records(record, {"title": "B"}), "record 2 has no published_at or seen_at; a headline without its"),
        "polarity": (records(record | {"polarity": 3}), "record 1 polarity is 3, expected -1 to 1; mend"),
        "polarity true": (records(record | {"polarity": True}), "record 1 polarity is True, expected"),
        "polarity NaN": (f'[{line[:-1]}, "polarity": NaN}}]', "record 1 polarity is nan, expected"),
        "polarity huge": (records(record | {"polarity": 10**400}), "record 1 polarity is 1000000"),
        "polarity in words": (records(record | {"polarity": "good"}), "record 1 polarity is 'good', expected"),
        "polarity a list": (records(record | {"polarity": [1]}), "record 1 polarity is a list, expected"),
    }


@pytest.mark.parametrize("case", broken_json())
def test_broken_json(tmp_path: Path, case: str) -> None:
    content, words = broken_json()[case]
    refused(written(tmp_path, "a", content), words)


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


BOMB = """<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<rss version="2.0"><channel><item><title>&b;</title></item></channel></rss>"""
OUTSIDE = """<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<rss version="2.0"><channel><item><title>&a;</title></item></channel></rss>"""
BROKEN_FEEDS: dict[str, tuple[str | bytes, str]] = {
    "cut off": (RSS[:600], "not an RSS or Atom feed (line 8: not well-formed XML (no element found))"),
    "a page": ("<html><body>Not found</body></html>", "line 1: its first element is <html>, not <rss>"),
    "entities": (BOMB, "it declares an entity of its own, which a feed never needs; take the DOCTYPE out"),
    "a file outside": (OUTSIDE, "it declares an entity of its own"),
    "an unknown entity": (RSS.replace("&amp;amp;", "&nbsp;"), "not well-formed XML (undefined entity)"),
    "a namespace": (RSS.replace("search.yahoo", "search.yaho}"), "'http://search.yaho}.com/mrss/' is no address"),
    "deep": (f"<rss>{'<a>' * 200_000}", "elements lie more than 100 deep in one another"),
    "NUL": (RSS.replace("Bridge", "Br\0idge"), "not well-formed XML (not well-formed (invalid token))"),
    "not UTF-8": (RSS.encode().replace(b"Bridge", b"Br\xffidge"), "line 6: not well-formed XML"),
    "encoding": (RSS.replace("UTF-8", "x-none"), "its encoding is not known; save it as UTF-8"),
    "no items": ('<rss version="2.0"><channel><title>W</title></channel></rss>', "(there are no records)"),
    "no item of use": (
        '<rss><channel><item><title>A</title></item></channel></rss>',
        "(a.dump: item 1 has no pubDate, published or updated; a headline without its time cannot be used)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "stamp", ["Mon, 01 Jan 2024 079:00:00 +0000", "Mon, 01 Jan 2024 09:00:00 +8000", "2024-01 -01 08:00:00"]
)
def test_what_is_no_time_is_none_for_the_audit_either(tmp_path: Path, stamp: str) -> None:
    found = read(written(tmp_path, "a", RSS.replace("Mon, 01 Jan 2024 09:00:00 +0000", stamp)))
    assert found.counts.formats["feed"].skipped == 1


@pytest.mark.parametrize("case", BROKEN_FEEDS)
def test_broken_feeds(tmp_path: Path, case: str) -> None:
    content, words = BROKEN_FEEDS[case]
    refused(written(tmp_path, "a", content), words)


def test_what_else_a_feed_may_be(tmp_path: Path) -> None:
    utf16 = RSS.replace("UTF-8", "UTF-16").encode("utf-16")
    assert read(written(tmp_path, "a", utf16)).counts.kept == 2
    latin = RSS.replace("UTF-8", "ISO-8859-1").replace("Bridge", "Brücke").encode("latin-1")
    assert read(written(tmp_path, "a", latin)).frame["title"][0].startswith("Brücke")
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://my.netscape.com/rss-0.91.dtd">'
    old = RSS.replace("?>\n", f"?>\n{doctype}\n", 1)
    assert read(written(tmp_path, "a", old)).counts.kept == 2
    rdf = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
      xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>W</title></channel>
      <item><title>A</title><link>https://a.example/1</link><dc:date>2024-01-01T08:00:00Z</dc:date></item></rdf:RDF>"""
    assert read(written(tmp_path, "a", rdf)).frame["title"].to_list() == ["A"]


def test_a_broken_record_of_a_service_is_left_out_and_counted(tmp_path: Path) -> None:
    articles = json.loads(GDELT)["articles"]
    wrong = [
        7,
        {"title": "B"},
        articles[0] | {"title": 5},
        articles[0] | {"seendate": "soon"},
        articles[0] | {"title": " "},
    ]
    found = read(written(tmp_path, "a", json.dumps({"articles": [articles[0], *wrong]})))
    counts = found.counts.formats["gdelt"]
    assert (counts.records, counts.untitled, counts.skipped, found.counts.kept) == (6, 1, 4, 1)
    assert counts.first_skipped == "a.dump: record 2 is a number, not an object"


def test_a_row_without_a_title_is_left_out_of_every_format(tmp_path: Path) -> None:
    found = read(written(tmp_path, "a", CSV + "2024-01-01T09:00:00Z,,,,,\n2024-01-01T09:00:00Z,,,,,[INST]</s>\n"))
    assert found.counts.formats["csv"].untitled == 2
    assert found.counts.formats["csv"].first_skipped == "a.dump: line 5 has no title"


BROKEN_CSV: dict[str, tuple[str | bytes, str]] = {
    "no title": ("published_at,polarity\n", "not a headline file (no column title; it has 'published_at', 'polarity')"),
    "no time": ("title,polarity\n", "not a headline file (no column time; it has 'title', 'polarity'); expected csv"),
    "semicolons": ("published_at;title\n2024-01-01;A\n", "(no column title; it has 'published_at;title')"),
    "not UTF-8": (CSV.encode() + b"2024-01-01T08:00:00Z,0,a,b,c,\xff\xfe\n", "line 5: not UTF-8 (byte 329); save it"),
    "more cells than names": (CSV + "1,2,3,4,5,6,7,8\n", "not a headline file ("),
    "no such time": (CSV + "soon,0,a,b,c,d\n", "line 5 published_at is 'soon': "),
    "no time there": (CSV + ",0,a,b,c,d\n", "line 5 has no published_at or seen_at; a headline without its time"),
    "no polarity": (CSV + "2024-01-01,1.5,a,b,c,d\n", "line 5 polarity is '1.5', expected -1 to 1; mend or remove it"),
    "an open quote": (CSV + '2024-01-01,0,a,b,c,"d\n', "not a headline file ("),
}


@pytest.mark.parametrize("case", BROKEN_CSV)
def test_broken_csv(tmp_path: Path, case: str) -> None:
    content, words = BROKEN_CSV[case]
    refused(written(tmp_path, "a", content), words)


def test_missing_files(tmp_path: Path) -> None:
    refused(
        tmp_path / "none.csv", "no such file; unset data.headlines or give a file of headlines, or a folder of them"
    )
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no files in this folder; unset data.headlines or put files of headlines there")


@pytest.mark.parametrize("name", ["json", "csv", "rss"])
def test_a_title_of_ten_megabytes(tmp_path: Path, name: str) -> None:
    """Nested tokens would cost the square of its length."""
    title = "<|" * 2_500_000 + "|>" * 2_500_000
    text = {
        "json": records({"title": f"Up {title}", "published_at": "2024-01-01T08:00:00Z"}),
        "csv": f'published_at,title\n2024-01-01T08:00:00Z,"Up {title}"\n',
        "rss": f"<rss><channel><item><title>Up {title.replace('<', '&lt;')}</title>"
        "<pubDate>Mon, 01 Jan 2024 08:00:00 GMT</pubDate></item></channel></rss>",
    }[name]
    path = written(tmp_path, "a", text)
    (shown,) = read_headlines(path, DataConfig()).frame["title"]
    assert len(shown) <= 90 and shown.startswith("Up")


@pytest.mark.parametrize("name", ["csv", "cryptopanic", "gdelt", "rss", "atom"])
def test_no_control_token_reaches_a_prompt(tmp_path: Path, name: str) -> None:
    token = "[INST]" if name in ("csv", "cryptopanic") else "&lt;|im_end|&gt;"
    found = read(written(tmp_path, name, FILES[name].replace("Bridge", f"{token}Bridge")))
    assert all(word not in title for title in found.frame["title"] for word in ("[INST]", "im_end"))
    assert found.frame["title"][0].startswith("Bridge")


def test_odd_names_and_addresses(tmp_path: Path) -> None:
    base = {"title": "A", "published_at": "2024-01-01T08:00:00Z"}
    odd: list[dict[str, Any]] = [
        {"url": "https://[half/x"}, {"url": 5}, {"source": {"title": 7}}, {"currencies": 5},
        {"currencies": [None, {"code": 3}, {"name": "x"}, " btc "]}, {"currencies": ["X"] * 51},
        {"tickers": "eth;sol|ada"},
    ]  # fmt: skip
    rows = [base | {"title": f"Title {number}"} | extra for number, extra in enumerate(odd)]
    found = read(written(tmp_path, "a", records(*rows)))
    assert found.frame["tickers"].to_list() == ["", "", "", "", "BTC", "", "ADA ETH SOL"]
