"""Bring the Crypto Fear & Greed Index: alternative.me's API to a csv file, a value a day.

What is on disk stays: new days are added, and an answer that does not read as a history changes nothing.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path

import httpx
import polars as pl

from candletune import __version__
from candletune.errors import InputError, UsageError
from candletune.files import write_text
from candletune.market.retry import Busy, Wait, ask
from candletune.market.sentiment import fear_greed_class, parse_fear_greed, read_fear_greed

URL = "https://api.alternative.me/fng/?limit=0&format=json"
TIMEOUT = 30.0
"""Seconds without a byte."""
MAX_BYTES = 20_000_000
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What changed on disk: days added, days in all, and days for which the server now says otherwise (kept)."""

    added: int
    total: int
    differing: int


def fetch_fear_greed(target: Path, *, url: str = URL, wait: Wait = time.sleep) -> Fetched:
    """Add the days the server knows to `target` (csv: date, value, classification).

    Args:
        target: the file; made when missing.
        url: the API's address.
        wait: sleeps between attempts.

    Raises:
        UsageError: `url` is no http address, or `target` is no csv file.
        InputError: the server has no usable answer, or the file on disk is broken. The file is left as it is.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url}: expected an http or https address")
    if target.suffix != ".csv":
        raise UsageError(f"{target}: expected a name that ends in .csv; set data.fear_greed or --output")
    known = read_fear_greed(target) if target.exists() else None
    new = ask(lambda: _history(_get(url), url), url, wait=wait)
    if known is None:
        merged, differing = new, 0
    else:
        day = pl.col("published").dt.date()
        overlap = known.join(new, on=day, how="inner", suffix="_new")
        differing = overlap.filter(pl.col("value") != pl.col("value_new")).height
        merged = pl.concat([known, new.join(known, on=day, how="anti")]).sort("published")
    rows = [f"{_date(at)},{value:g},{fear_greed_class(value)}" for at, value in merged.iter_rows()]
    write_text(target, "\n".join(["date,value,classification", *rows]) + "\n")
    return Fetched(len(merged) - (0 if known is None else len(known)), len(merged), differing)


def _date(at: datetime) -> str:
    """A midnight as its date; a clock time that the file had stays."""
    return f"{at:%Y-%m-%d}" if at.time() == time_of_day.min else at.isoformat()


def _history(raw: bytes, url: str) -> pl.DataFrame:
    """The answer as `published`, `value`; `Busy` when it is none, since busy servers answer with pages."""
    try:
        history = parse_fear_greed(raw)
    except (KeyError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise Busy(f"not a Fear & Greed history: {error}") from None
    if history.is_empty():
        raise Busy("an empty history")
    bad = history.filter(~pl.col("value").is_between(0, 100))
    if not bad.is_empty():
        day = bad["published"][0]
        raise InputError(f"{url}: value {bad['value'][0]} on {day:%Y-%m-%d} is not from 0 to 100; nothing was changed")
    # A day's value is published at its midnight; the newest entry may carry the time of the request instead.
    return (
        history.with_columns(pl.col("published").dt.truncate("1d")).unique("published", keep="first").sort("published")
    )


def _get(url: str) -> bytes:
    """The answer's bytes, at most `MAX_BYTES` of them read."""
    headers = {"User-Agent": f"candletune/{__version__}", "Accept": "application/json"}
    try:
        with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code in _TRY_AGAIN:
                raise Busy(f"HTTP {answer.status_code}")
            if not answer.is_success:
                raise InputError(f"{url}: HTTP {answer.status_code} {answer.reason_phrase}; check --url")
            raw = bytearray()
            for part in answer.iter_bytes():
                raw += part
                if len(raw) > MAX_BYTES:
                    raise InputError(
                        f"{url}: more than {MAX_BYTES:,} bytes, which is no Fear & Greed history; check --url"
                    )
    except httpx.InvalidURL as error:
        raise UsageError(f"--url {url}: {error}; expected an http or https address") from None
    except httpx.HTTPError as error:
        raise Busy(str(error) or type(error).__name__) from None
    return bytes(raw)
