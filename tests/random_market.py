"""Random candles and context for tests of market rows."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from candletune.config import DataConfig
from candletune.fields.columns import market_rows
from candletune.market.candles import Candles, check_candles
from candletune.market.sentiment import Sentiment

START = datetime(2024, 1, 1, tzinfo=UTC)
DATA = DataConfig(context_timeframes=("2h", "4h"))
ROWS = 260


def walk(seed: int, rows: int, *, gap: int = 0) -> pl.DataFrame:
    """Random candles; `gap` removes two in the middle."""
    rng = random.Random(seed)  # noqa: S311
    price, records = 100.0, []
    for hour in range(rows):
        opened, price = price, price * math.exp(rng.gauss(0, 0.02))
        high, low = max(opened, price) * 1.001, min(opened, price) * 0.999
        records.append((START + timedelta(hours=hour), opened, high, low, price, rng.random()))
    if gap:
        del records[gap : gap + 2]
    names = ("open", "high", "low", "close", "volume")
    schema = {"date": pl.Datetime("us", "UTC")} | {name: pl.Float64() for name in names}
    return pl.DataFrame(records, schema=schema, orient="row")


def news(seed: int) -> Sentiment:
    rng = random.Random(seed)  # noqa: S311
    days = [START + timedelta(days=day) for day in range(12)]
    times = sorted(START + timedelta(minutes=rng.randrange(12 * 1440)) for _ in range(40))
    utc = pl.Datetime("us", "UTC")
    fear = pl.DataFrame({"published": pl.Series(days, dtype=utc), "value": [rng.uniform(0, 100) for _ in days]})
    polarity = [rng.uniform(-1, 1) for _ in times]
    titles = [f"Title {i}" for i in range(len(times))]
    return Sentiment(
        fear, pl.DataFrame({"known_at": pl.Series(times, dtype=utc), "polarity": polarity, "title": titles})
    )


def rows_of(frame: pl.DataFrame, sentiment: Sentiment) -> pl.DataFrame:
    checked, report = check_candles(frame, Path("x.feather"), "1h")
    return market_rows(Candles(checked, report, Path("x.feather"), "BTC", "1h"), DATA, sentiment)
