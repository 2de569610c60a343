"""The audit's own way to the context files: Python's csv and json, row by row, nothing of `market.sentiment`'s reading.

An audit that reads its input as the dataset does repeats the dataset's mistakes. This one asks of each row, from the
files as they are: what could have been known at the decision time?
"""

import csv
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from candletune.config import Config, DataConfig
from candletune.dataset.own_headlines import OwnHeadline, own_headlines
from candletune.dataset.render import loses_headlines
from candletune.market.sentiment import MOOD_BOUND, NEUTRAL_FEAR_GREED, NEUTRAL_NEWS, NO_HEADLINES

STALE: Final = timedelta(days=2)
"""How long a Fear & Greed value is shown."""
SHOWN: Final = 20
"""Differences that are named one by one."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OwnReading:
    """Both files in time order; empty where none is configured."""

    data: DataConfig
    fear_greed: tuple[tuple[datetime, float], ...]
    headlines: tuple[OwnHeadline, ...]

    def differences(self, row: Row) -> list[str]:
        """What a row of the sidecar says otherwise than the files did at its decision time; a line each."""
        time: datetime = row["decision_time"]
        found = [] if self.data.fear_greed is None else self._fear_greed(row, time)
        return found + ([] if self.data.headlines is None else self._news(row, time))

    def _fear_greed(self, row: Row, time: datetime) -> list[str]:
        delay = timedelta(minutes=self.data.fear_greed_delay)
        place = bisect_right(self.fear_greed, time - delay, key=lambda entry: entry[0])
        known = place > 0 and self.fear_greed[place - 1][0] + delay >= time - STALE
        value = self.fear_greed[place - 1][1] if known else float(NEUTRAL_FEAR_GREED)
        if abs(row["fear_greed"] - value) <= 0.5:
            return []
        what = f"the last value known by then is {value:g}" if known else "none was known by then"
        return [f"fear_greed is {row['fear_greed']}, but {what}"]

    def _news(self, row: Row, time: datetime) -> list[str]:
        opened = time - timedelta(hours=self.data.headline_hours)
        first, last = (bisect_right(self.headlines, at, key=lambda headline: headline.at) for at in (opened, time))
        window = self.headlines[first:last]
        newest = [headline.title for headline in reversed(window)][: self.data.headline_count]
        shown = " | ".join(newest) or NO_HEADLINES
        mean = math.fsum(headline.polarity for headline in window) / max(1, len(window))
        mood = "positive" if mean > MOOD_BOUND else "negative" if mean < -MOOD_BOUND else NEUTRAL_NEWS
        found = [] if shown == row["headlines"] else [f"headlines are {row['headlines']!r}, not {shown!r}"]
        # On a bound the rounding decides, which is no question of time.
        on_bound = abs(abs(mean) - MOOD_BOUND) < 1e-6
        if not on_bound and mood != row["news_sentiment"]:
            found.append(f"news_sentiment is {row['news_sentiment']}, not {mood}")
        if abs(abs(mean) - row["sentiment_confidence"]) > 0.0051:
            found.append(f"sentiment_confidence is {row['sentiment_confidence']:g}, not {abs(mean):.2f}")
        return found


def context_problems(config: Config, meta: pl.DataFrame) -> list[str]:
    """What rows of the sidecar say otherwise than the context files did at their time: all rows are asked.

    Returns:
        A line for each difference, the first `SHOWN`, and how many more there are.
    """
    own = read_for_audit(config.data)
    silent = replace(own, headlines=())  # of rows that `headlines.dropout` took them from
    problems = [
        f"row {index} ({row['asset']} {row['decision_time']:%Y-%m-%d %H:%M}): {what}"
        for index, row in enumerate(meta.iter_rows(named=True), 1)
        for what in (silent if loses_headlines(row, config) else own).differences(row)
    ]
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], f"context files: {more} more differences like these"]


def read_for_audit(data: DataConfig) -> OwnReading:
    """Both configured files, which the dataset has read already: they are there and whole."""
    told = () if data.headlines is None else own_headlines(data.headlines, data)
    return OwnReading(data, _fear_greed(data.fear_greed), told)


def _fear_greed(path: Path | None) -> tuple[tuple[datetime, float], ...]:
    if path is None:
        return ()
    if path.suffix == ".json":
        entries = json.loads(path.read_text(encoding="utf-8"))["data"]
        return tuple(
            sorted((datetime.fromtimestamp(int(entry["timestamp"]), UTC), float(entry["value"])) for entry in entries)
        )
    return tuple(sorted((_moment(line["date"]), float(line["value"])) for line in _lines(path)))


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
