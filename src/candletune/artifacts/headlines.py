"""What is written down of headlines: what became of every record, and how much of the time they cover."""

from collections.abc import Mapping

from candletune.artifacts.base import Moment, Record


class HeadlineRecords(Record):
    """What became of the records of one format.

    Attributes:
        files: that are of it.
        records: in all of them.
        untitled: left out, since they have no title.
        skipped: left out, since something else of them could not be read.
        first_skipped: the first that was left out, and why; empty when none was.
        seen: headlines with the time at which they were fetched.
        assumed_utc: headlines with a time that names no offset and was taken as UTC.
        whole_days: headlines with a date alone, which count from the end of that day on.
    """

    files: int
    records: int
    untitled: int
    skipped: int
    first_skipped: str
    seen: int
    assumed_utc: int
    whole_days: int


class HeadlineCounts(Record):
    """What became of all records.

    Attributes:
        formats: format, as `data.headline_format` has it -> its records.
        kept: headlines that a prompt may show.
        repeated_urls: left out, since an earlier one has the same address.
        repeated_titles: left out, since an earlier one has the same title.
        first: from when the first of them could be known.
        last: from when the last of them could be known.
    """

    formats: Mapping[str, HeadlineRecords]
    kept: int
    repeated_urls: int
    repeated_titles: int
    first: Moment
    last: Moment


class MonthOfHeadlines(Record):
    """One month.

    Attributes:
        headlines: that could be known in it for the first time.
        told: share of its decision times with at least one headline.
    """

    headlines: int
    told: float


class TickerHeadlines(Record):
    """Headlines filed under one ticker.

    Attributes:
        headlines: how many.
        train: share of the decision times before the test period with at least one of them.
        replay: share of those of the test period.
    """

    headlines: int
    train: float
    replay: float


class HeadlineCoverage(Record):
    """How much of the time headlines cover.

    Attributes:
        counts: what became of the records.
        hours: for which a headline stays in the prompt.
        train: share of the decision times before the test period with at least one headline.
        replay: share of those of the test period.
        by_month: `2024-06` -> its headlines, from the first candle on.
        by_ticker: ticker -> its headlines; empty where no record names a currency.
    """

    counts: HeadlineCounts
    hours: int
    train: float
    replay: float
    by_month: Mapping[str, MonthOfHeadlines]
    by_ticker: Mapping[str, TickerHeadlines]
