"""How much of the time headlines cover: month by month, before the test period and in it, and by ticker."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import polars as pl

from candletune.artifacts import HeadlineCounts, HeadlineCoverage, MonthOfHeadlines, TickerHeadlines
from candletune.config import Config
from candletune.dataset.period import TestPeriod
from candletune.market.candles import ticker_of
from candletune.market.sentiment import Sentiment

NOTICED: Final = 0.05
"""A difference of the shares below this is not worth a word."""


def headline_coverage(config: Config, period: TestPeriod, sentiment: Sentiment) -> HeadlineCoverage | None:
    """None where no headlines are configured.

    A decision time is every close on the candles' grid, from the first candle (`dataset.train_start`, where that is
    set) to the last; gaps in the candles are not looked at.

    Args:
        config: `data.headline_hours`, the pairs, and where training begins.
        period: what is kept out for the replay.
        sentiment: the context files, read.
    """
    if sentiment.headlines is None or sentiment.counts is None:
        return None
    begin = max(filter(None, (period.first + config.candle, config.dataset.train_start)))
    times = pl.datetime_range(
        begin, period.end, interval=config.candle, time_unit="us", time_zone="UTC", eager=True
    ).alias("time")
    told = _told(times, sentiment.headlines["known_at"], config.data.headline_hours)
    train, replay = _shares(times, told, period.start)
    return HeadlineCoverage(
        counts=sentiment.counts,
        hours=config.data.headline_hours,
        train=train,
        replay=replay,
        by_month=_by_month(times, told, sentiment.headlines, begin - config.candle),
        by_ticker=_by_ticker(config, times, sentiment.headlines, period.start),
    )


def coverage_problem(covered: HeadlineCoverage) -> str | None:
    """What to say where training and replay see headlines differently often; None where they do not."""
    few, many = sorted((covered.train, covered.replay))
    if many - few < NOTICED or few > many / 2:
        return None
    return (
        f"headlines reach {covered.train:.0%} of the decision times before the test period and {covered.replay:.0%} of "
        "those in it: what is learned with them is judged without, or the other way round; give headlines of both, "
        "move dataset.train_start and dataset.test_start to where they are, or unset data.headlines"
    )


def describe_coverage(covered: HeadlineCoverage) -> str:
    """One line for a person."""
    return (
        f"at least one in the last {covered.hours} h at {covered.train:.0%} of the decision times before the test "
        f"period and {covered.replay:.0%} of those in it"
    )


def describe_counts(counts: HeadlineCounts) -> list[str]:
    """A line for a person, and a line for each thing that was assumed or left out."""
    records = sum(one.records for one in counts.formats.values())
    files = sum(one.files for one in counts.formats.values())
    lines = [
        f"{counts.kept:,} headlines of {records:,} records ({', '.join(counts.formats)}; {files} "
        f"{'file' if files == 1 else 'files'}), {counts.first:%Y-%m-%d} to {counts.last:%Y-%m-%d}"
    ]
    if counts.repeated_urls or counts.repeated_titles:
        lines.append(
            f"{counts.repeated_urls + counts.repeated_titles:,} left out that were told before "
            f"({counts.repeated_urls:,} by address, {counts.repeated_titles:,} by title)"
        )
    for name, one in counts.formats.items():
        if one.untitled or one.skipped:
            lines.append(
                f"{name}: left out {one.untitled:,} records without a title and {one.skipped:,} that could not be read "
                f"({one.first_skipped})"
            )
        if one.assumed_utc > one.whole_days:
            lines.append(f"{name}: {one.assumed_utc - one.whole_days:,} times without an offset, taken as UTC")
        if one.whole_days:
            lines.append(f"{name}: {one.whole_days:,} dates without a clock, which count from the end of that day on")
    return lines


def _told(times: pl.Series, known: pl.Series, hours: int) -> pl.Series:
    """Whether a headline had become known in the hours up to each time, (t - hours, t]."""
    opened = times.dt.offset_by(f"-{hours}h")
    return (known.search_sorted(times, side="right") > known.search_sorted(opened, side="right")).alias("told")


def _shares(times: pl.Series, told: pl.Series, turn: datetime) -> tuple[float, float]:
    """Of the times before it and from it on."""
    later = times >= turn
    before, after = (told.filter(part).mean() for part in (~later, later))
    return round(float(before or 0.0), 4), round(float(after or 0.0), 4)  # type: ignore[arg-type]


def _by_month(
    times: pl.Series, told: pl.Series, headlines: pl.DataFrame, opened: datetime
) -> Mapping[str, MonthOfHeadlines]:
    shares = pl.DataFrame([times, told]).group_by(month=pl.col("time").dt.strftime("%Y-%m")).agg(pl.col("told").mean())
    inside = headlines.filter(pl.col("known_at").is_between(opened, times[-1]))
    counted = inside.group_by(month=pl.col("known_at").dt.strftime("%Y-%m")).agg(pl.len().alias("headlines"))
    table = shares.join(counted, on="month", how="left").sort("month")
    return {
        month: MonthOfHeadlines(headlines=count or 0, told=round(share, 4))
        for month, share, count in table.select("month", "told", "headlines").iter_rows()
    }


def _by_ticker(
    config: Config, times: pl.Series, headlines: pl.DataFrame, turn: datetime
) -> Mapping[str, TickerHeadlines]:
    """Only where records name currencies at all."""
    filed = headlines.filter(pl.col("tickers") != "")
    if filed.is_empty():
        return {}
    found = {}
    for ticker in sorted(map(ticker_of, config.data.pairs)):
        known = filed.filter(pl.col("tickers").str.split(" ").list.contains(ticker))["known_at"]
        train, replay = _shares(times, _told(times, known, config.data.headline_hours), turn)
        found[ticker] = TickerHeadlines(headlines=len(known), train=train, replay=replay)
    return found
