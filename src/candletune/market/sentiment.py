"""Sentiment context as of the decision time: Fear & Greed and headlines, or neutral placeholders.

A value counts from the moment it was published: a day's Fear & Greed at 00:00 UTC of that day, a headline at its own
time. Nothing is ever invented: without a file, or before its first row, the placeholders stand.
"""

import json
import re
from pathlib import Path

import polars as pl

from candletune.config import DataConfig
from candletune.errors import InputError

NEUTRAL_FEAR_GREED = 50
NO_HEADLINES = "N/A"
HEADLINE_LENGTH = 90
_STALE_DAYS = 2
_CONTROL = re.compile(r"\[/?[A-Z_]{2,}\]|</?s>|<\|[^|>]*\|>|<(?:unk|pad|bos|eos)>", re.IGNORECASE)
_CLASSES = ((25, "Extreme Fear"), (46, "Fear"), (54, "Neutral"), (75, "Greed"), (100, "Extreme Greed"))


def fear_greed_class(value: float) -> str:
    """The index's own words: Extreme Fear to 25, Fear to 46, Neutral to 54, Greed to 75, Extreme Greed above."""
    return next(name for bound, name in _CLASSES if value <= bound)


def clean_headline(text: str, *, limit: int = HEADLINE_LENGTH) -> str:
    """Text from outside, safe for a prompt: one line, no control tokens, no separator, at most `limit` characters."""
    printable = "".join(ch if ch.isprintable() else " " for ch in text)
    while (stripped := _CONTROL.sub(" ", printable)) != printable:
        # Removing one token may join the halves of another.
        printable = stripped
    words = " ".join(printable.replace("|", "/").split())
    if len(words) <= limit:
        return words
    return words[: limit - 3].rsplit(" ", 1)[0] + "..."


def add_sentiment(rows: pl.DataFrame, data: DataConfig) -> pl.DataFrame:
    """Add fear_greed, fear_greed_class, news_sentiment, sentiment_confidence and headlines to rows by decision time.

    Raises:
        InputError: a configured file is missing or malformed.
    """
    return _add_headlines(_add_fear_greed(rows, data.fear_greed), data)


def read_fear_greed(path: Path) -> pl.DataFrame:
    """`published` (Datetime[us, UTC]) and `value` (0..100) from csv (date, value) or alternative.me's JSON.

    Raises:
        InputError: names the file and what is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `candletune fetch fear-greed` or unset data.fear_greed")
    try:
        if path.suffix == ".json":
            entries = json.loads(path.read_text(encoding="utf-8"))["data"]
            frame = pl.DataFrame(
                {"published": [int(e["timestamp"]) for e in entries], "value": [float(e["value"]) for e in entries]}
            ).with_columns(pl.from_epoch("published", time_unit="s"))
        else:
            frame = pl.read_csv(path, try_parse_dates=True).select(
                published=pl.col("date").cast(pl.Datetime("us")), value=pl.col("value").cast(pl.Float64)
            )
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{path}: not a Fear & Greed history ({' '.join(str(error).split())[:80]}); expected csv columns date, value "
            "or the API's JSON"
        ) from None
    bad = frame.filter(pl.col("value").is_null() | ~pl.col("value").is_between(0, 100) | pl.col("published").is_null())
    if not bad.is_empty():
        raise InputError(f"{path}: value {bad['value'][0]} at {bad['published'][0]} is not within 0 to 100; mend that row")
    return frame.with_columns(pl.col("published").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")).sort("published")


def _add_fear_greed(rows: pl.DataFrame, path: Path | None) -> pl.DataFrame:
    if path is None:
        value: pl.Expr = pl.lit(NEUTRAL_FEAR_GREED, dtype=pl.Int64)
        joined = rows
    else:
        joined = rows.join_asof(
            read_fear_greed(path).rename({"value": "_fear_greed"}),
            left_on="decision_time",
            right_on="published",
            strategy="backward",
            tolerance=f"{_STALE_DAYS}d",
            check_sortedness=False,
        )
        value = pl.col("_fear_greed").round(0).cast(pl.Int64).fill_null(NEUTRAL_FEAR_GREED)
    joined = joined.with_columns(fear_greed=value)
    words = pl.lit(None, dtype=pl.String)
    for bound, name in reversed(_CLASSES):
        words = pl.when(pl.col("fear_greed") <= bound).then(pl.lit(name)).otherwise(words)
    return joined.with_columns(fear_greed_class=words).select(*rows.columns, "fear_greed", "fear_greed_class")


def read_headlines(path: Path) -> pl.DataFrame:
    """`published_at` (UTC), `polarity` (-1..1), `title` (cleaned), from csv, ascending.

    Raises:
        InputError: names the file and what is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; unset data.headlines or give a csv with published_at, polarity, title")
    try:
        frame = pl.read_csv(path, infer_schema=False).select(
            pl.col("published_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_unit="us").dt.convert_time_zone("UTC"),
            pl.col("polarity").cast(pl.Float64),
            pl.col("title").fill_null(""),
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{path}: not a headline file ({' '.join(str(error).split())[:100]}); expected csv columns published_at "
            "(ISO 8601 with zone), polarity (-1 to 1), title"
        ) from None
    return frame.with_columns(
        pl.col("title").map_elements(clean_headline, return_dtype=pl.String),
        pl.col("polarity").fill_null(0.0).clip(-1, 1),
    ).sort("published_at", maintain_order=True)


def _add_headlines(rows: pl.DataFrame, data: DataConfig) -> pl.DataFrame:
    names = ("news_sentiment", "sentiment_confidence", "headlines")
    if data.headlines is None or rows.is_empty():
        return rows.with_columns(
            news_sentiment=pl.lit("neutral"), sentiment_confidence=pl.lit(0.0), headlines=pl.lit(NO_HEADLINES)
        )
    news = read_headlines(data.headlines)
    # A headline of 08:15 is known from 08:15 on; one window per decision time, `(t - hours, t]`.
    times = rows.select("decision_time").unique().sort("decision_time")
    last = news["published_at"].search_sorted(times["decision_time"], side="right")
    first = news["published_at"].search_sorted(
        times["decision_time"].dt.offset_by(f"-{data.headline_hours}h"), side="right"
    )
    sums = pl.concat([pl.Series([0.0]), news["polarity"].cum_sum()])
    count = (last - first).cast(pl.Int64)
    mean = (sums.gather(last) - sums.gather(first)) / count.clip(1)
    titles = news["title"].to_list()
    shown = [
        " | ".join(reversed(titles[max(low, high - data.headline_count) : high])) or NO_HEADLINES
        for low, high in zip(first.to_list(), last.to_list(), strict=True)
    ]
    known = times.with_columns(
        news_sentiment=pl.when(mean > 0.05).then(pl.lit("positive")).when(mean < -0.05).then(pl.lit("negative"))
        .otherwise(pl.lit("neutral")),
        sentiment_confidence=mean.abs().round(2),
        headlines=pl.Series(shown, dtype=pl.String),
    )  # fmt: skip
    return rows.join(known, on="decision_time", how="left", maintain_order="left").select(*rows.columns, *names)
