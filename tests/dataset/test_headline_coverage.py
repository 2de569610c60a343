"""How much of the time headlines cover, told by the stage, its manifest, its card and `doctor`."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.artifacts import DatasetManifest, HeadlineCoverage
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.dataset import audit, read_examples
from candletune.dataset.build import build
from candletune.dataset.coverage import coverage_problem, describe_counts, headline_coverage
from candletune.dataset.period import TestPeriod
from candletune.market.headlines.layouts import Layout
from candletune.market.headlines.records import headline_of
from candletune.market.sentiment import load_sentiment
from candletune.preflight.data import context_files
from random_walk import START, Listener, built, config_of, write_walks

HOURS = 1800


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("candles"), BTC=HOURS, ETH=HOURS)


def posts(until: int) -> list[dict[str, object]]:
    """One post every 30 hours, each told twice, filed under a ticker in turn."""
    found: list[dict[str, object]] = []
    for number, hour in enumerate(range(0, until, 30)):
        at = START + timedelta(hours=hour, minutes=10)
        post: dict[str, object] = {
            "title": f"Story {number} told",
            "published_at": at.isoformat(),
            "created_at": (at + timedelta(minutes=20)).isoformat(),
            "currencies": [{"code": ("BTC", "ETH", "SOL")[number % 3]}],
            "url": f"https://a.example/{number}",
        }
        again = (at + timedelta(hours=2)).isoformat()
        found += [post, post | {"published_at": again, "created_at": again, "url": f"https://b.example/{number}"}]
    return found


def configured(folder: Path, tmp_path: Path, *more: str, until: int = HOURS) -> Config:
    (tmp_path / "news").mkdir(exist_ok=True)
    (tmp_path / "news" / "page.json").write_text(json.dumps({"results": posts(until)}))
    named = (f"data.headlines='{tmp_path / 'news'}'", "data.headline_hours=10", "data.headline_delay=0")
    return config_of(folder, tmp_path / "run", *named, *more)


def test_the_stage_says_what_there_is(folder: Path, tmp_path: Path) -> None:
    config, listener = configured(folder, tmp_path), Listener()
    run, _ = built(config)
    assert audit(config, run, 20, SilentReporter()).clean
    manifest = DatasetManifest.read(run.dataset_manifest)
    covered = manifest.headlines
    assert covered is not None
    # Known from half past on, shown at the next ten closes of thirty.
    assert covered.train == pytest.approx(1 / 3, abs=0.01)
    assert covered.replay == pytest.approx(1 / 3, abs=0.02)
    assert covered.counts.kept == covered.counts.repeated_titles == 60
    assert list(covered.by_month) == ["2024-01", "2024-02", "2024-03"]
    assert covered.by_month["2024-01"].headlines == 25
    assert sum(month.headlines for month in covered.by_month.values()) == 60
    assert covered.by_month["2024-02"].told == pytest.approx(1 / 3, abs=0.01)
    assert {ticker: own.headlines for ticker, own in covered.by_ticker.items()} == {"BTC": 20, "ETH": 20}
    assert covered.by_ticker["BTC"].train == pytest.approx(1 / 9, abs=0.01)
    assert manifest.problems == ()
    card = (run.dataset / "card.html").read_text(encoding="utf-8")
    for words in ("60 headlines of 120 records", "ETH: 20 filed under it", "Decision times with a headline by month"):
        assert words in card
    build(config, run, listener)
    assert any("headlines: 60 headlines of 120 records (cryptopanic; 1 file)" in line for line in listener.lines)


def test_headlines_that_end_before_the_replay_are_a_problem(folder: Path, tmp_path: Path) -> None:
    config = configured(folder, tmp_path, until=900)
    manifest = DatasetManifest.read(built(config)[0].dataset_manifest)
    (problem,) = manifest.problems
    assert "headlines reach 25% of the decision times before the test period and 0% of those in it" in problem
    found = [(finding.level, finding.text) for finding in context_files(config)]
    assert found[-1] == ("warning", problem)
    assert any("30 headlines of 60 records" in text for _, text in found)


def test_doctor_says_it_of_a_good_file_too(folder: Path, tmp_path: Path) -> None:
    found = list(context_files(configured(folder, tmp_path)))
    assert [finding.level for finding in found] == ["ok"] * 4
    assert "in the last 10 h at 33% of the decision times before the test" in found[-1].text
    assert len(list(context_files(configured(folder, tmp_path, "data.folder=nowhere")))) == 3


@pytest.mark.parametrize(
    ("train", "replay", "told"),
    [(0.9, 0.9, False), (0.9, 0.5, False), (0.9, 0.4, True), (0.1, 0.9, True), (0.04, 0.0, False), (0.06, 0.0, True)],
)
def test_when_it_is_a_problem(folder: Path, tmp_path: Path, train: float, replay: float, told: bool) -> None:
    config = configured(folder, tmp_path)
    period = TestPeriod(START, START + timedelta(hours=1200), START + timedelta(hours=HOURS), 0.3, by_default=True)
    covered = headline_coverage(config, period, load_sentiment(config.data))
    assert covered is not None
    assert (coverage_problem(covered.model_copy(update={"train": train, "replay": replay})) is not None) is told


def test_nothing_is_said_where_there_are_none(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "run")
    manifest = DatasetManifest.read(built(config)[0].dataset_manifest)
    assert manifest.headlines is None
    assert DatasetManifest.model_validate(manifest.model_dump(exclude={"headlines"})) == manifest


def test_what_was_assumed_is_said(tmp_path: Path, folder: Path) -> None:
    rows = "2024-01-01,A\n2024-01-01 08:00,B\n2024-01-01T09:00:00Z,C\n2024-01-01T09:00:00Z,\n"
    (tmp_path / "n.csv").write_text(f"date,title\n{rows}")
    config = config_of(folder, tmp_path / "run", f"data.headlines='{tmp_path / 'n.csv'}'")
    counts = load_sentiment(config.data).counts
    assert counts is not None
    assert describe_counts(counts) == [
        "3 headlines of 4 records (csv; 1 file), 2024-01-01 to 2024-01-02",
        "csv: left out 1 records without a title and 0 that could not be read (n.csv: line 5 has no title)",
        "csv: 1 times without an offset, taken as UTC",
        "csv: 1 dates without a clock, which count from the end of that day on",
    ]
    period = TestPeriod(START, START + timedelta(hours=20), START + timedelta(hours=60), 0.3, by_default=True)
    covered = headline_coverage(config, period, load_sentiment(config.data))
    assert isinstance(covered, HeadlineCoverage)
    assert covered.by_ticker == {}


def test_training_begins_where_it_is_told_to(folder: Path, tmp_path: Path) -> None:
    """Coverage before the test period is that of the time trained on."""
    late = configured(folder, tmp_path, "dataset.train_start=2024-02-10", until=900)
    covered = DatasetManifest.read(built(late)[0].dataset_manifest).headlines
    assert covered is not None
    assert (covered.train, list(covered.by_month)) == (0.0, ["2024-02", "2024-03"])


def test_dropout_without_headlines_takes_nothing(folder: Path, tmp_path: Path) -> None:
    """The same bytes as without it: there was nothing to lose."""
    with_it = read_examples(built(config_of(folder, tmp_path / "a", "headlines.dropout=0.5"))[0])
    without = read_examples(built(config_of(folder, tmp_path / "b"))[0])
    assert with_it.prompts == without.prompts
    assert with_it.completions == without.completions


def test_dropout_of_a_services_posts(folder: Path, tmp_path: Path) -> None:
    config = configured(folder, tmp_path, "headlines.dropout=0.9", "data.headline_hours=30")
    run, _ = built(config)
    told = read_examples(run).meta.select(pl.col("headlines") != "N/A", "split")
    assert 0 < told.filter(split="train")["headlines"].mean() < 0.3  # type: ignore[operator]
    assert told.filter(split="eval")["headlines"].mean() > 0.9  # type: ignore[operator]
    assert audit(config, run, 20, SilentReporter()).clean


def test_the_audit_sees_a_service_that_is_read_too_early(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published at ten past, seen by the service twenty minutes later: the first is the future of the second."""
    config = configured(folder, tmp_path, "data.headline_hours=1")
    assert audit(config, built(config)[0], 20, SilentReporter()).clean

    def early(record: object, layout: Layout, delay: timedelta) -> object:
        assert isinstance(record, dict)
        shown = {name: value for name, value in record.items() if name != "created_at"}
        return headline_of(shown, layout, delay - timedelta(hours=1))

    monkeypatch.setattr("candletune.market.headlines.read.headline_of", early)
    wrong = configured(folder, tmp_path, "data.headline_hours=1", f"run.folder='{tmp_path / 'wrong'}'")
    problems = audit(wrong, built(wrong)[0], 20, SilentReporter()).problems
    assert any("headlines are 'Story" in problem for problem in problems)
