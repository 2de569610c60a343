"""`data.headlines`: a file or a folder of files to headlines in the order in which they could be known."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from candletune.artifacts import HeadlineCounts, HeadlineRecords
from candletune.config import DataConfig
from candletune.errors import InputError
from candletune.market.headlines.containers import NotReadable, take_apart
from candletune.market.headlines.records import Broken, Headline, Untitled, headline_of
from candletune.market.headlines.repeats import first_tellings


@dataclass(frozen=True, slots=True)
class Headlines:
    """What was read.

    Attributes:
        frame: `known_at` (Datetime[us, UTC], ascending), `polarity` (-1..1), `title` (cleaned), `tickers`
            (upper case, a space between them; empty: none).
        counts: what became of every record.
    """

    frame: pl.DataFrame
    counts: HeadlineCounts


def read_headlines(path: Path, data: DataConfig) -> Headlines:
    """Every headline of a file, or of all files of a folder (hidden ones left out).

    Raises:
        InputError: names the file, the record and what is wrong; nothing could be used.
    """
    found: list[Headline] = []
    formats: dict[str, HeadlineRecords] = {}
    for file in _files(path):
        name, headlines, counted = _read(file, data)
        found += headlines
        formats[name] = _added(formats.get(name), counted)
    if not found:
        first = next((one.first_skipped for one in formats.values() if one.first_skipped), "there are no records")
        raise InputError(f"{path}: no headline that could be used ({first}); unset data.headlines or give another file")
    # Titles break ties, so that the order in the files means nothing.
    found.sort(
        key=lambda headline: (headline.known_at, headline.title, headline.polarity, headline.whole, headline.url)
    )
    repeats = first_tellings(found, timedelta(hours=data.headline_repeat_hours))
    kept = [headline for headline, repeat in zip(found, repeats, strict=True) if repeat is None]
    how = Counter(repeat for repeat in repeats if repeat is not None)
    counts = HeadlineCounts(
        formats=formats,
        kept=len(kept),
        repeated_urls=how["url"],
        repeated_titles=how["title"],
        first=kept[0].known_at,
        last=kept[-1].known_at,
    )
    return Headlines(_frame(kept), counts)


def _frame(headlines: list[Headline]) -> pl.DataFrame:
    times = [round(headline.known_at.timestamp() * 1e6) for headline in headlines]  # ten times as fast as the times
    return pl.DataFrame(
        {
            "known_at": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "polarity": pl.Series([headline.polarity for headline in headlines], dtype=pl.Float64),
            "title": pl.Series([headline.title for headline in headlines], dtype=pl.String),
            "tickers": pl.Series([" ".join(headline.tickers) for headline in headlines], dtype=pl.String),
        }
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file; unset data.headlines or give a file of headlines, or a folder of them")
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    seen = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not seen:
        raise InputError(f"{path}: no files in this folder; unset data.headlines or put files of headlines there")
    return seen


def _read(path: Path, data: DataConfig) -> tuple[str, list[Headline], HeadlineRecords]:
    """Format and headlines of one file, and what became of its records."""
    try:
        taken = take_apart(path.read_bytes(), data.headline_format)
    except NotReadable as error:
        raise InputError(f"{path}: {error}") from None
    delay = timedelta(minutes=data.headline_delay)
    found: list[Headline] = []
    untitled, skipped, first = 0, 0, ""
    for place, record in taken.records:
        try:
            found.append(headline_of(record, taken.layout, delay))
        except Untitled as error:
            untitled, first = untitled + 1, first or f"{path.name}: {place} {error}"
        except Broken as error:
            if taken.layout.exact:
                raise InputError(f"{path}: {place} {error}; mend or remove it") from None
            skipped, first = skipped + 1, first or f"{path.name}: {place} {error}"
    return (
        taken.layout.name,
        found,
        HeadlineRecords(
            files=1,
            records=len(taken.records),
            untitled=untitled,
            skipped=skipped,
            first_skipped=first,
            seen=sum(headline.seen for headline in found),
            assumed_utc=sum(headline.assumed_utc for headline in found),
            whole_days=sum(headline.whole_day for headline in found),
        ),
    )


def _added(before: HeadlineRecords | None, counted: HeadlineRecords) -> HeadlineRecords:
    """The counts of two files of one format."""
    if before is None:
        return counted
    sums = {name: getattr(before, name) + getattr(counted, name) for name in HeadlineRecords.model_fields}
    return HeadlineRecords(**{**sums, "first_skipped": before.first_skipped or counted.first_skipped})
