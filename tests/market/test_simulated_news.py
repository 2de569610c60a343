"""A simulated market with news: what its headlines tell, when, and how much a perfect reader gains by them."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from candletune.cli import program
from candletune.config import Config, DataConfig, load_config
from candletune.console import SilentReporter
from candletune.dataset import read_examples
from candletune.errors import UsageError
from candletune.market.event_kinds import event_kinds
from candletune.market.headlines import read_headlines
from candletune.market.headlines.text import HEADLINE_LENGTH, clean_headline
from candletune.market.simulate import simulate
from candletune.market.simulate_news import (
    ANNOUNCED_DOWN,
    ANNOUNCED_UP,
    MOVING_DOWN,
    MOVING_UP,
    Law,
    News,
    event_drift,
    filtered_events,
    pool,
    simulate_news,
)
from candletune.market.simulated import best_attainable, headline_file, market_of, news_of, reading, write_market
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

HOURS = 9000
KINDS = event_kinds().kind


@pytest.fixture(scope="module")
def news() -> News:
    return simulate_news((5, 900), HOURS, 0.6)


def settings(folder: Path, *more: str) -> Config:
    market = ["simulate.enabled=true", "simulate.news=1", "simulate.signal=0.2", "simulate.years=0.7", *more]
    return load_config(None, [f"run.folder={folder}", *market])


def test_sixty_kinds_half_of_them_new_and_each_in_dozens_of_wordings() -> None:
    assert len(KINDS) == 60
    assert Counter((kind.direction, kind.is_new) for kind in KINDS) == {
        **{(way, new): 12 for way in (1, -1) for new in (True, False)},
        (0, False): 8,
        (0, True): 4,
    }
    found, rng = event_kinds(), np.random.default_rng(1)
    for kind in KINDS:
        for after in (False, True) if kind.before else (True,):
            texts = {found.word(kind, after, rng) for _ in range(150)}
            assert len(texts) >= 24, kind.name
            assert all(clean_headline(text) == text and len(text) <= HEADLINE_LENGTH for text in texts), kind.name


def test_wordings_and_half_of_the_kinds_of_the_test_period_are_new(news: News) -> None:
    told = news.headlines
    before, after = told.filter(pl.col("hour") < news.turn), told.filter(pl.col("hour") >= news.turn)
    assert not set(before["title"]) & set(after["title"])
    assert not any(KINDS[kind].is_new for kind in before["kind"].unique())
    assert pool(False)[[kind.is_new for kind in KINDS]].sum() == 0
    assert pool(True)[[kind.is_new for kind in KINDS]].sum() == pytest.approx(0.5)
    moving = [KINDS[kind].is_new for kind in after["kind"] if KINDS[kind].direction]
    assert 0.3 < np.mean(moving) < 0.7


def test_headlines_tell_of_the_event_late_repeat_themselves_and_sometimes_lie(news: News) -> None:
    told = news.headlines.with_columns(on=pl.Series(news.kind[news.headlines["hour"].to_numpy()]))
    first = told.filter(~pl.col("repeat") & pl.col("kind").is_in([n for n, k in enumerate(KINDS) if k.direction]))
    true = first.filter(pl.col("kind") == pl.col("on"))
    assert 0.9 < len(true) / len(first) < 1
    begins = np.flatnonzero((news.kind >= 0) & (np.roll(news.kind, 1) != news.kind))
    told_at = set(true["hour"])
    assert 0.2 < np.mean([hour in told_at for hour in begins.tolist()]) < 0.7  # most come with a delay
    assert 0.15 < told["repeat"].mean() < 0.25  # type: ignore[operator]
    assert (told.filter("repeat")["kind"] != told.filter("repeat")["on"]).any()  # when it is over


def test_a_market_without_news_is_the_one_it_always_was() -> None:
    plain, pushed = simulate((4, 1), 400, 1.0), simulate((4, 1), 400, 1.0, None, np.zeros(400))
    assert np.array_equal(plain.returns, pushed.returns)
    assert set(load_config(None).simulate.model_dump()) >= {"news", "unseen"}


@pytest.mark.parametrize("reads", [True, False])
def test_the_filter_is_as_sure_as_it_is_right(news: News, reads: bool) -> None:
    law = Law(0.3, 0.8)
    market = simulate((5, 1000), HOURS, law.signal, None, event_drift(news, law.strength))
    beliefs = filtered_events(market, news, law, reads=reads)
    assert beliefs.sum(axis=(1, 2)) == pytest.approx(np.ones(HOURS))
    for phases in ([ANNOUNCED_UP, ANNOUNCED_DOWN], [MOVING_UP, MOVING_DOWN]):
        chance = beliefs[:, phases].sum(axis=2).ravel()
        is_so = (news.phase[:, None] == phases).ravel()
        for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.0)):
            inside = (chance >= low) & (chance <= high)
            if inside.sum() > 200:
                assert is_so[inside].mean() == pytest.approx(chance[inside].mean(), abs=0.08), (phases, low)
    surprise = -np.log(beliefs.sum(axis=2)[np.arange(HOURS), news.phase]).mean()
    assert surprise < (0.62 if reads else 1.0)


def test_reading_is_worth_something_only_where_events_move_the_price(tmp_path: Path) -> None:
    best = best_attainable(settings(tmp_path, "simulate.signal=0", "simulate.years=0.4"), times=400, paths=60)
    assert best.without_text is not None
    assert best.balanced > best.without_text + 0.1 > 0.4
    assert best_attainable(settings(tmp_path, "simulate.news=0"), times=100, paths=50).without_text is None


def test_the_future_of_the_news_is_not_read(news: News) -> None:
    """Cut after an hour, beliefs until then are the same."""
    law, cut = Law(0.2, 1.0), 700
    market = simulate((5, 1000), 800, law.signal, None, event_drift(news, law.strength)[:800])
    early = News(news.phase, news.kind, news.headlines.filter(pl.col("hour") <= cut), news.turn)
    whole = filtered_events(market, news, law, reads=True)
    assert np.array_equal(whole[: cut + 1], filtered_events(market, early, law, reads=True)[: cut + 1])
    assert not np.array_equal(whole, filtered_events(market, early, law, reads=True))


def test_a_run_reads_its_news_and_keeps_the_new_wordings_for_the_replay(tmp_path: Path) -> None:
    config = settings(tmp_path / "run", "dataset.per_class=60", "dataset.natural_eval=40", "data.headline_hours=4")
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        ready = prepare(config, run, reporter)
        run_stage(stage("dataset"), ready, run, reporter)
    assert ready.dataset.test_start == config.simulate.unseen_from
    told = read_headlines(run.candles / "headlines.csv", ready.data).frame
    new = set(told.filter(pl.col("known_at") >= config.simulate.unseen_from)["title"])
    shown = {title for text in read_examples(run).meta["headlines"] for title in text.split(" | ")}
    assert len(new) > 100 < len(shown)
    assert not new & shown
    own = config.model_copy(update={"data": config.data.model_copy(update={"headlines": tmp_path / "mine.csv"})})
    assert reading(own, run.candles).data.headlines == tmp_path / "mine.csv"


def test_the_command_writes_a_market_that_data_headlines_reads(tmp_path: Path) -> None:
    (tmp_path / "c.toml").touch()
    folder = tmp_path / "market"
    given = ["simulate", "--config", str(tmp_path / "c.toml"), "--news", "1", "--seed", "3", "--output", str(folder)]
    more = ["--set", "simulate.years=0.06", "--set", "data.pairs=SOL/USDT:USDT"]
    done = CliRunner().invoke(program, [*given, *more], catch_exceptions=False)
    assert done.exit_code == 0
    assert (folder / "futures" / "SOL_USDT_USDT-1h-futures.feather").is_file()
    assert len(read_headlines(folder / "headlines.csv", DataConfig()).frame) > 60
    events = pl.read_csv(folder / "events.csv")
    assert len(events) == round(0.06 * 365.25 * 24)
    assert set(events["direction"].unique()) == {-1, 0, 1}


def test_real_candles_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "futures").mkdir()
    with pytest.raises(UsageError, match="no simulated market"):
        write_market(settings(tmp_path), tmp_path)


def test_all_pairs_have_the_same_news_and_a_seed_the_same_market(tmp_path: Path) -> None:
    config = settings(tmp_path, "simulate.years=0.1")
    news, again = news_of(config), news_of(config)
    assert news is not None and again is not None
    assert headline_file(config, news) == headline_file(config, again)
    drift = event_drift(news, 1.0)
    plain = [market_of(config, index, None).returns for index in (0, 1)]
    assert market_of(config, 0, news).returns[:50] == pytest.approx(plain[0][:50] + drift[:50], abs=2e-3)
    assert not np.array_equal(market_of(config, 0, news).returns, market_of(config, 1, news).returns)
