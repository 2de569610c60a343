"""Baselines that read: measured wherever the candidate reads headlines, and better where these say more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candletune.artifacts import Metrics
from candletune.config import load_config
from candletune.evaluation.baselines import Ints, Task, baseline_actions
from candletune.evaluation.told import with_headlines
from simulated_run import make_run

READING = ["TF-IDF and logistic regression", "boosting and polarity"]
WORDS = (("coins stolen from vault", "lawsuit filed today"), ("fund approved at last", "record inflow today"))


def rows(n: int, seed: int) -> tuple[pl.DataFrame, Ints]:
    """Numbers that say nothing, titles that tell the class, and a polarity that tells it half of the time."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    titles = ["N/A" if k == 2 else f"{WORDS[1 - k][rng.integers(2)]} {rng.integers(9)}" for k in classes]
    known = rng.random(n) < 0.5
    signs = np.where(known, np.array([1, -1, 0])[classes], 0)
    names = ("rsi", "macd_hist", "ema_gap_pct", "bb_percent", "change_24h", "past_return")
    frame = pl.DataFrame({name: rng.normal(size=n) for name in names}).with_columns(
        close=pl.lit(100.0),
        headlines=pl.Series(titles),
        news_sentiment=pl.Series([("neutral", "positive", "negative")[sign] for sign in signs]),
        sentiment_confidence=pl.Series(np.abs(signs) * 0.3),
    )
    return frame, classes.astype(np.int64)


@pytest.fixture(scope="module")
def task() -> tuple[Task, Ints]:
    train, classes = rows(600, 1)
    asked, truth = rows(300, 2)
    made = Task(asked, train, classes, np.ones(600), threshold=0.02, held_out=asked, natural=None, calls=None, seed=1)
    return made, truth


def test_who_reads_knows_more_and_knows_nothing_of_shuffled_headlines(task: tuple[Task, Ints]) -> None:
    asked, truth = task
    found = baseline_actions(asked)
    right = {name: float((found[name] == truth).mean()) for name in (*READING, "gradient boosting")}
    assert right[READING[0]] > 0.95 > 0.8 > right[READING[1]] > 0.55 > 0.45 > right["gradient boosting"]
    told = ("headlines", "news_sentiment", "sentiment_confidence")
    mixed = asked.rows.select(told).sample(fraction=1, shuffle=True, seed=3)
    shuffled = baseline_actions(replace(asked, rows=asked.rows.with_columns(mixed)))
    assert all((shuffled[name] == truth).mean() < 0.45 for name in READING)


def test_where_nothing_is_told_nobody_reads(task: tuple[Task, Ints]) -> None:
    asked = task[0]
    silent = asked.train.with_columns(headlines=pl.lit("N/A"))
    assert not set(READING) & set(baseline_actions(replace(asked, train=silent)))
    assert not set(READING) & set(baseline_actions(replace(asked, rows=asked.rows.drop("headlines"))))


def test_a_handful_of_titles_is_enough(task: tuple[Task, Ints]) -> None:
    """No word twice: still an answer."""
    asked = task[0]
    few = asked.train.with_columns(headlines=pl.Series(["Alone"] + ["N/A"] * 599))
    assert set(READING) <= set(baseline_actions(replace(asked, train=few)))


def test_evaluate_measures_them_where_the_prompt_has_headlines(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, "simulate.news=1", "simulate.years=0.5", "data.headline_hours=4", rows=150)
    assert set(READING) <= set(Metrics.read(run.metrics).baselines)


def test_a_template_without_headlines_has_no_reader(tmp_path: Path) -> None:
    template = tmp_path / "own.j2"
    template.write_text("{{ ticker }} {{ price_usd }} {{ rsi }}\nDECISION: [BUY/SELL/HOLD] - [reason]\n")
    news = tmp_path / "news.csv"
    news.write_text("published_at,polarity,title\n2024-01-01T08:00:00+00:00,0.5,Good\n")
    config = load_config(None, [f"data.headlines={news}", f"prompt.template={template}"])
    asked = pl.DataFrame({"decision_time": pl.Series([None], dtype=pl.Datetime("us", "UTC"))})
    assert with_headlines(asked, config).columns == ["decision_time"]
