"""The test period: the default, what is said and recorded, and what is refused before any candle is labelled."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.dataset import find_test_period, read_examples
from candletune.dataset.unseen import held_out_rows
from candletune.errors import InputError
from candletune.files import read_json
from candletune.market.candles import check_candles, open_times, read_file
from random_walk import START, built, config_of, walk, write_walks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BTC for 3000 hours, ETH for the first 2000 of them."""
    return write_walks(tmp_path_factory.mktemp("candles"), BTC=3000, ETH=2000)


def test_unset_the_last_third_of_a_short_history_is_kept_out_and_replayed(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    run, reporter = built(config)
    manifest = read_json(run.dataset_manifest)
    # 3000 hours end on May 5 at 00:00; a third of them before that is March 24, 08:00; the next midnight counts.
    start = START + timedelta(days=84)
    assert manifest["test_start"] == start.isoformat()
    assert manifest["test_start_default"] is True
    # Of BTC's 3000 and ETH's 2000 candles those that close from then on: 985 of BTC.
    assert manifest["test_share"] == round(985 / 5000, 4)
    assert (
        "kept out for the replay: from 2024-03-25 on, 41 days, 20% of the candles "
        "(set dataset.test_start to choose another)" in reporter.lines
    )
    assert max(read_examples(run).meta["decision_time"]) < start - timedelta(hours=24)
    rows, forced = held_out_rows(config, datetime.fromisoformat(manifest["train_end"]), start)
    assert rows["decision_time"][0] == start
    assert not forced


def test_a_configured_start_is_recorded_as_such(folder: Path, tmp_path: Path) -> None:
    run, reporter = built(config_of(folder, tmp_path, "dataset.test_start=2024-04-01"))
    manifest = read_json(run.dataset_manifest)
    assert (manifest["test_start"], manifest["test_start_default"]) == ("2024-04-01T00:00:00+00:00", False)
    assert any(line.endswith("from 2024-04-01 on, 34 days, 16% of the candles") for line in reporter.lines)


def test_a_simulated_market_keeps_its_last_months_out_too(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "run", "simulate.enabled=true", "simulate.years=3.5")
    run, reporter = built(config)
    assert read_json(run.dataset_manifest)["test_start"] == "2024-07-02T00:00:00+00:00"
    assert any("from 2024-07-02 on, 12 months, 29% of the candles" in line for line in reporter.lines)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "dataset.test_start=2030-01-01",
            "leaves nothing to replay, since the candles in .* end at 2024-05-05; set an",
        ),
        ("dataset.test_start=2024-01-07", "leaves no training examples, since .* begin at 2024-01-01"),
        ("dataset.train_start=2024-04-20", r"dataset\.train_start: 2024-04-20 leaves no training examples before"),
    ],
)
def test_a_period_that_cannot_work_is_refused_before_anything_is_read(
    folder: Path, tmp_path: Path, setting: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("candletune.dataset.pairs.load_candles", lambda *_: pytest.fail("read candles"))
    with pytest.raises(InputError, match=words):
        built(config_of(folder, tmp_path, setting))


@pytest.mark.parametrize("ending", ["feather", "parquet", "csv"])
def test_open_times_are_those_of_the_checked_candles(tmp_path: Path, ending: str) -> None:
    frame = walk(1, 300).with_columns(pl.col("date").dt.replace_time_zone("UTC").dt.cast_time_unit("ms"))
    frame = pl.concat([frame.sample(fraction=1.0, shuffle=True, seed=1), frame.head(5)])
    path = tmp_path / f"x.{ending}"
    if ending == "feather":
        frame.write_ipc(path)
    elif ending == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    checked, _ = check_candles(read_file(path), path, "1h")
    assert open_times(path, "1h").equals(checked["date"])


def test_what_is_found_of_real_candles(shared_data: Path, tmp_path: Path) -> None:
    period = find_test_period(config_of(shared_data, tmp_path))
    assert period.describe().startswith("kept out for the replay: from 2024-07-01 on, 12 months, 18% of the candles")
