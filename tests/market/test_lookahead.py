"""Whatever the future brings, no past row changes; and how the rows came in means nothing."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

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
        fear, pl.DataFrame({"published_at": pl.Series(times, dtype=utc), "polarity": polarity, "title": titles})
    )


def rows_of(frame: pl.DataFrame, sentiment: Sentiment) -> pl.DataFrame:
    checked, report = check_candles(frame, Path("x.feather"), "1h")
    return market_rows(Candles(checked, report, Path("x.feather"), "BTC", "1h"), DATA, sentiment)


seeds = st.integers(0, 2**20)
gaps = st.sampled_from((0, 0, 120, 190))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, cut=st.integers(160, ROWS - 1), gap=gaps)
def test_cutting_the_future_changes_no_past_row(seed: int, cut: int, gap: int) -> None:
    whole, sentiment = walk(seed, ROWS, gap=gap), news(seed)
    past = whole.head(cut)
    last = past["date"][-1] + timedelta(hours=1)
    full = rows_of(whole, sentiment).filter(pl.col("decision_time") <= last)
    assert len(full) > 0 or gap
    assert rows_of(past, sentiment.until(last)).equals(full)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, other=seeds, cut=st.integers(160, ROWS - 1))
def test_another_future_changes_no_past_row(seed: int, other: int, cut: int) -> None:
    one, two = walk(seed, ROWS), walk(other + 1, ROWS + 40)
    spliced = pl.concat([one.head(cut), two.slice(cut)])
    before = pl.col("decision_time") <= one["date"][cut - 1] + timedelta(hours=1)
    sentiment = news(seed)
    assert rows_of(spliced, sentiment).filter(before).equals(rows_of(one, sentiment).filter(before))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, order=st.randoms(use_true_random=False), cut=st.integers(1, ROWS - 1), overlap=st.integers(0, 20))
def test_order_and_cutting_a_file_in_two_mean_nothing(seed: int, order: random.Random, cut: int, overlap: int) -> None:
    whole, sentiment = walk(seed, ROWS), news(seed)
    expected = rows_of(whole, sentiment)
    places = list(range(ROWS))
    order.shuffle(places)
    assert rows_of(whole[places], sentiment).equals(expected)
    # The second half first, with some rows in both, as two downloads put together give them.
    halves = pl.concat([whole.slice(max(0, cut - overlap)), whole.head(cut)])
    assert rows_of(halves, sentiment).equals(expected)
