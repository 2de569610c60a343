"""Hostile files of headlines, in every format: a refusal of one line, or titles that are safe and known in time order.

What is read, the audit's own reading must find too.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candletune.config import DataConfig
from candletune.dataset.own_headlines import own_headlines
from candletune.market.headlines import read_headlines
from fuzz.damage import TEXTS, damaged, hostile_json
from fuzz.driver import Check, Target
from headline_files import CRYPTOPANIC, FILES, GDELT

CONTROL = ("[INST]", "</s>", "<|im_end|>", "<start_of_turn>", "<<SYS>>")
GOOD: tuple[dict[str, Any], ...] = (
    json.loads(CRYPTOPANIC)["results"][0],
    json.loads(GDELT)["articles"][0],
    {"title": "A", "published_at": "2024-01-01T08:00:00Z", "seen_at": 1704096900, "polarity": 0.5, "tickers": ["BTC"]},
)
EARLY, LATE = datetime(1980, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)
_TIMES = (
    "2024-01-01",
    "20240101T120000Z",
    "Mon, 01 Jan 2024 12:00:00 EST",
    "2024-01-01 12:00 +0530",
    "1704110400",
    "x",
)


def make(rng: random.Random) -> bytes:
    """A file of one of the formats, with damage to its bytes, texts or values."""
    way = rng.randrange(3)
    if way == 0:
        return damaged(rng, rng.choice([*FILES.values()]).encode())
    if way == 1:
        text = rng.choice([*FILES.values()])
        for _ in range(rng.randint(1, 3)):
            old = rng.choice(
                ("Bridge", "funds", "2024-01-01", "08:15:00", "title", "Exchange", "lists", "GMT", "https")
            )
            text = text.replace(old, rng.choice((*TEXTS, *CONTROL, *_TIMES)), rng.choice((1, -1)))
        return text.encode("utf-8", "surrogatepass")
    records = [hostile_json(rng, rng.choice(GOOD)) for _ in range(rng.randint(1, 4))]
    good = json.dumps(rng.choice(GOOD))
    joined = ",".join([*records, good])
    forms = (f"[{joined}]", f'{{"results": [{joined}]}}', f'{{"articles": [{joined}]}}', "\n".join([*records, good]))
    return rng.choice(forms).encode("utf-8", "surrogatepass")


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    path = folder / "news.dump"
    settings = DataConfig(headlines=path)

    def check(case: bytes) -> str:
        path.write_bytes(case)
        read = read_headlines(path, settings)
        rows = list(read.frame.select("known_at", "title", "polarity").iter_rows())
        assert rows == sorted(rows)
        for at, title, polarity in rows:
            assert EARLY <= at <= LATE
            assert title.isprintable() and 0 < len(title) <= 90 and "|" not in title
            assert not [token for token in CONTROL if token in title], title
            assert -1 <= polarity <= 1
        own = [(one.at, one.title, one.polarity) for one in own_headlines(path, settings)]
        assert own == rows, (own, rows)
        return " ".join(read.counts.formats)

    yield check


TARGET = Target(make=make, opened=opened)
