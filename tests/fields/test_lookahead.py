"""Whatever the future brings, no past row changes; and how the rows came in means nothing."""

import random
from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from random_market import ROWS, news, rows_of, walk

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
