"""Sentiment context as of the decision time: Fear & Greed and headlines, or neutral placeholders.

A value counts from the moment one could have known it: a day's Fear & Greed from 00:00 UTC of that day on, or from the
clock time that its file has, plus `data.fear_greed_delay`; a headline from the time on at which it was fetched, or its
own plus `data.headline_delay`. Nothing is ever invented: without a file, or before its first row, the placeholders
stand.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from candletune.artifacts import HeadlineCounts
from candletune.config import DataConfig
from candletune.errors import InputError
from candletune.market.headlines import read_headlines

NEUTRAL_FEAR_GREED = 50
NO_HEADLINES = "N/A"
NEUTRAL_NEWS = "neutral"
MOOD_BOUND = 0.05
"""Mean polarity within plus and minus this reads as neutral news."""
_MEAN_DIGITS = 9
_STALE_DAYS = 2
_CLASSES = ((25, "Extreme Fear"), (46, "Fear"), (54, "Neutral"), (75, "Greed"), (100, "Extreme Greed"))


@dataclass(frozen=True, slots=True)
class Sentiment:
    """The context files, read and checked; None where none is configured.

    Attributes:
        fear_greed: `published` (Datetime[us, UTC], the delay included), `value` (0..100), ascending.
        headlines: `known_at` (Datetime[us, UTC], the delay included), `polarity` (-1..1), `title` (cleaned), `tickers`,
            ascending.
        counts: what became of the headlines' records.
    """

    fear_greed: pl.DataFrame | None
    headlines: pl.DataFrame | None
    counts: HeadlineCounts | None = None

    def until(self, time: datetime) -> "Sentiment":
        """What could be known at `time`."""
        return Sentiment(
            None if self.fear_greed is None else self.fear_greed.filter(pl.col("published") <= time),
            None if self.headlines is None else self.headlines.filter(pl.col("known_at") <= time),
        )


def fear_greed_class(value: float) -> str:
    """The index's own words: Extreme Fear to 25, Fear to 46, Neutral to 54, Greed to 75, Extreme Greed above."""
    return next(name for bound, name in _CLASSES if round(value) <= bound)


def load_sentiment(data: DataConfig) -> Sentiment:
    """Read the configured context files.

    Raises:
        InputError: a configured file is missing or malformed.
    """
    delay = pl.duration(minutes=data.fear_greed_delay)
    told = None if data.headlines is None else read_headlines(data.headlines, data)
    return Sentiment(
        None if data.fear_greed is None else read_fear_greed(data.fear_greed).with_columns(pl.col("published") + delay),
        None if told is None else told.frame,
        None if told is None else told.counts,
    )


def read_fear_greed(path: Path) -> pl.DataFrame:
    """`published` (Datetime[us, UTC]) and `value` (0..100) from csv (date, value) or alternative.me's JSON.

    A date is its midnight in UTC, which is when alternative.me gives out a day's value. A clock time counts as it
    stands, in UTC where it names no offset.

    Raises:
        InputError: names the file and what is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `candletune fetch fear-greed` or unset data.fear_greed")
    try:
        frame = parse_fear_greed(path.read_bytes()) if path.suffix == ".json" else _read_fear_greed_csv(path)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(
            f"{path}: not a Fear & Greed history ({reason}); expected csv columns date, value or the API's JSON"
        ) from None
    if frame.is_empty():
        raise InputError(f"{path}: no rows; run `candletune fetch fear-greed` again")
    known = pl.col("value").is_not_null() & pl.col("value").is_between(0, 100) & pl.col("published").is_not_null()
    bad = frame.filter(~known)
    if not bad.is_empty():
        raise InputError(f"{path}: value {bad['value'][0]} at {bad['published'][0]} is not from 0 to 100; mend the row")
    if frame.select("published").is_duplicated().any():
        doubled = frame.filter(frame["published"].is_duplicated())["published"][0]
        if frame.unique().select("published").is_duplicated().any():
            raise InputError(f"{path}: two different values for {doubled}; keep one of them")
    return frame.unique().sort("published")


def parse_fear_greed(raw: bytes) -> pl.DataFrame:
    """`published` and `value` from the bytes of alternative.me's JSON; `KeyError` or `ValueError` when it is not."""
    entries = json.loads(raw)["data"]
    times = [int(entry["timestamp"]) for entry in entries]
    if any(not 10**9 < time < 10**10 for time in times):
        raise ValueError("a timestamp that is not in seconds since 1970")
    return pl.DataFrame(
        {"published": times, "value": [float(e["value"]) for e in entries]},
        schema={"published": pl.Int64, "value": pl.Float64},
    ).with_columns(pl.from_epoch("published", time_unit="s").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def _read_fear_greed_csv(path: Path) -> pl.DataFrame:
    frame = pl.read_csv(path, infer_schema=False).select("date", pl.col("value").cast(pl.Float64))
    times = [_moment(text) for text in frame["date"]]
    return frame.select(published=pl.Series(times, dtype=pl.Datetime("us", "UTC")), value="value")


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def add_fear_greed(rows: pl.DataFrame, history: pl.DataFrame | None) -> pl.DataFrame:
    """Add fear_greed (0..100) and fear_greed_class to rows by decision time: the value published last, or Neutral."""
    if history is None:
        value: pl.Expr = pl.lit(NEUTRAL_FEAR_GREED, dtype=pl.Int64)
        joined = rows
    else:
        # A join as of a time needs that time sorted; the callers' row order is kept.
        joined = (
            rows.with_row_index("_place")
            .sort("decision_time")
            .join_asof(
                history.rename({"value": "_fear_greed"}),
                left_on="decision_time",
                right_on="published",
                strategy="backward",
                tolerance=f"{_STALE_DAYS}d",
            )
            .sort("_place")
        )
        value = pl.col("_fear_greed").round(0).cast(pl.Int64).fill_null(NEUTRAL_FEAR_GREED)
    joined = joined.with_columns(fear_greed=value)
    words = pl.lit(None, dtype=pl.String)
    for bound, name in reversed(_CLASSES):
        words = pl.when(pl.col("fear_greed") <= bound).then(pl.lit(name)).otherwise(words)
    return joined.with_columns(fear_greed_class=words).select(*rows.columns, "fear_greed", "fear_greed_class")


def add_news_mood(rows: pl.DataFrame, news: pl.DataFrame | None, data: DataConfig) -> pl.DataFrame:
    """Add news_sentiment (positive, negative, neutral) and sentiment_confidence (0..1) to rows by decision time."""
    if news is None or news.is_empty() or rows.is_empty():
        return rows.with_columns(news_sentiment=pl.lit(NEUTRAL_NEWS), sentiment_confidence=pl.lit(0.0))
    times, last, count = _windows(rows, news, data)
    sums = pl.concat([pl.Series([0.0]), news["polarity"].cum_sum()])
    # Rounded, so that a mean on a bound is on it and does not depend on what was summed up before.
    mean = ((sums.gather(last) - sums.gather(last - count)) / count.clip(1)).round(_MEAN_DIGITS).alias("mean")
    mood = pl.when(pl.col("mean") > MOOD_BOUND).then(pl.lit("positive"))
    known = times.with_columns(mean).select(
        "decision_time",
        news_sentiment=mood.when(pl.col("mean") < -MOOD_BOUND).then(pl.lit("negative")).otherwise(pl.lit(NEUTRAL_NEWS)),
        sentiment_confidence=pl.col("mean").abs().round(2),
    )
    return _join_times(rows, known)


def add_headlines(rows: pl.DataFrame, news: pl.DataFrame | None, data: DataConfig) -> pl.DataFrame:
    """Add headlines, the newest titles with a separator between them, to rows by decision time."""
    if news is None or news.is_empty() or rows.is_empty():
        return rows.with_columns(headlines=pl.lit(NO_HEADLINES))
    times, last, count = _windows(rows, news, data)
    return _join_times(
        rows, times.with_columns(headlines=_latest_titles(news["title"], last, count, data.headline_count))
    )


def _windows(rows: pl.DataFrame, news: pl.DataFrame, data: DataConfig) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """Each decision time once, the number of headlines known by then, and how many of them are in its window."""
    # A headline known at 08:15 is known from 08:15 on; one window per decision time, `(t - hours, t]`.
    times = rows.select("decision_time").unique().sort("decision_time")
    opened = times["decision_time"].dt.offset_by(f"-{data.headline_hours}h")
    last = news["known_at"].search_sorted(times["decision_time"], side="right").cast(pl.Int64)
    count = last - news["known_at"].search_sorted(opened, side="right").cast(pl.Int64)
    return times, last, count


def _join_times(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    return rows.join(known, on="decision_time", how="left", maintain_order="left").select(
        *rows.columns, *(name for name in known.columns if name != "decision_time")
    )


def _latest_titles(titles: pl.Series, last: pl.Series, count: pl.Series, most: int) -> pl.Series:
    """The newest `most` of each window's titles, newest first: one gather a place, not one loop a row."""
    titles_by_place = [
        pl.when(pl.lit(count) > place).then(titles.gather((last - 1 - place).clip(0))).alias(str(place))
        for place in range(most)
    ]
    shown = pl.select(titles_by_place).select(pl.concat_str(pl.all(), separator=" | ", ignore_nulls=True)).to_series()
    return shown.replace({"": NO_HEADLINES})
