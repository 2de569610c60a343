"""Decisions on two candle lengths in one dataset: the same hours to the outcome, one split by time, one balance."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import audit, decision_rows, draw_sample, read_examples, survey
from candletune.dataset.pairs import load_timeframes
from candletune.errors import InputError, UsageError
from candletune.files import read_json
from candletune.market.candles import COLUMNS
from candletune.market.resample import group_candles
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage
from random_walk import START, built, config_of, write_walks

BOTH = "dataset.timeframes=['1h', '4h']"
TEMPLATE = "{{ ticker }} {{ price_usd }} {{ rsi }} on {{ timeframe }}\nDECISION: [BUY/SELL/HOLD] - [reason]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("candles"), BTC=3000, ETH=3000)


def four_hours(folder: Path, name: str = "BTC") -> pl.DataFrame:
    frame = pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather")
    return group_candles(frame, "4h").filter(pl.col("count") == 4).select(COLUMNS)


def test_both_lengths_are_balanced_split_and_labelled_by_the_same_hours(folder: Path, tmp_path: Path) -> None:
    run, _ = built(config_of(folder, tmp_path, BOTH))
    meta, manifest = read_examples(run).meta, read_json(run.dataset_manifest)
    counts = dict(meta.group_by("timeframe").len().iter_rows())
    # In proportion to their candles, four to one.
    assert counts.keys() == {"1h", "4h"}
    assert 0.1 < counts["4h"] / len(meta) < 0.3
    assert set(meta.group_by("split", "label").len().filter(split="train")["len"]) == {54}
    closes = {
        name: dict(pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather").select("date", "close").iter_rows())
        for name in ("BTC", "ETH")
    }
    for row in meta.iter_rows(named=True):
        last = row["decision_time"] - timedelta(hours=1)
        change = closes[row["asset"]][last + timedelta(hours=12)] / closes[row["asset"]][last] - 1
        assert row["forward_return"] == pytest.approx(change, abs=1e-9), row
        assert row["label"] == ("BUY" if change > 0.02 else "SELL" if change < -0.02 else "HOLD")
        assert row["timeframe"] == "1h" or row["decision_time"].hour % 4 == 0
    boundary = datetime.fromisoformat(manifest["eval_boundary"])
    for timeframe in ("1h", "4h"):
        mine = meta.filter(timeframe=timeframe)
        assert max(mine.filter(split="train")["decision_time"]) + timedelta(hours=24) < boundary
        assert min(mine.filter(split="eval")["decision_time"]) >= boundary
    assert manifest["candidates"]["by_timeframe"].keys() == {"1h", "4h"}
    assert manifest["candles"]["BTC 4h"]["resampled"] == 750


def test_the_audit_rebuilds_both_and_finds_a_changed_one(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, BOTH)
    run, _ = built(config)
    meta = read_examples(run).meta
    assert audit(config, run, len(meta), SilentReporter()).problems == ()
    other = pl.when(pl.col("timeframe") == "4h").then(pl.lit("1h")).otherwise(pl.col("timeframe"))
    meta.with_columns(timeframe=other).write_parquet(run.meta)
    problems = audit(config, run, len(meta), SilentReporter()).problems
    assert len({line.partition(":")[0] for line in problems}) == meta["timeframe"].eq("4h").sum()
    only = config_of(folder, tmp_path)
    meta.write_parquet(run.meta)
    assert any("dataset.timeframes does not name" in line for line in audit(only, run, 180, SilentReporter()).problems)


def test_a_row_of_four_hours_is_that_of_a_dataset_of_four_hours_alone(folder: Path, tmp_path: Path) -> None:
    """The same values as candletune makes from 4h files with `data.timeframe = "4h"`."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("BTC", "ETH"):
        four_hours(folder, name).write_ipc(own / f"{name}_USDT_USDT-4h-futures.feather")
    run, _ = built(config_of(folder, tmp_path / "run", BOTH))
    alone = ("data.timeframe=4h", "data.context_timeframes=['12h', '1d']", "labels.horizon=3")
    rows = decision_rows(config_of(own, tmp_path / "other", *alone)).drop("prompt", "prompt_sha256")
    meta = read_examples(run).meta.filter(timeframe="4h").sort("decision_time", "asset")
    keys = meta.select("decision_time", "asset")
    assert (
        rows.join(keys, on=["decision_time", "asset"]).sort("decision_time", "asset").equals(meta.select(rows.columns))
    )


def test_one_timeframe_named_is_the_default(folder: Path, tmp_path: Path) -> None:
    plain, _ = built(config_of(folder, tmp_path / "a"))
    named, _ = built(config_of(folder, tmp_path / "b", "dataset.timeframes=['1h']"))
    assert named.jsonl.read_bytes() == plain.jsonl.read_bytes()
    assert read_examples(plain).meta["timeframe"].unique().to_list() == ["1h"]


def test_a_template_may_show_the_timeframe_and_one_that_does_not_is_warned_of(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "t.j2"
    template.write_text(TEMPLATE)
    run, reporter = built(config_of(folder, tmp_path / "a", BOTH, f"prompt.template='{template}'"))
    examples = read_examples(run)
    for prompt, timeframe in zip(examples.prompts, examples.meta["timeframe"], strict=True):
        assert prompt.splitlines()[0].endswith(f"on {timeframe}")
    assert not any("timeframe" in warning for warning in reporter.warnings)
    _, reporter = built(config_of(folder, tmp_path / "b", BOTH))
    assert any("never shows {{ timeframe }}" in warning for warning in reporter.warnings)


def test_own_files_win_and_what_they_lack_is_resampled(folder: Path, tmp_path: Path) -> None:
    """A 4h file of the second half, whose volume tells its candles from those made here."""
    half = tmp_path / "half"
    half.mkdir()
    for name in ("BTC", "ETH"):
        pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather").write_ipc(
            half / f"{name}_USDT_USDT-1h-futures.feather"
        )
        four_hours(folder, name).tail(300).with_columns(volume=9.0).write_ipc(
            half / f"{name}_USDT_USDT-4h-futures.feather"
        )
    config = config_of(half, tmp_path / "run", BOTH)
    candles = load_timeframes(config, "BTC/USDT:USDT").of("4h")
    assert candles.frame["volume"].to_list() == [4.0] * 450 + [9.0] * 300
    assert (candles.report["rows"], candles.report["resampled"], candles.report["gaps"]) == (750, 450, 0)
    run, _ = built(config)
    assert audit(config, run, 180, SilentReporter()).clean
    inputs = read_json(run.file("manifest.json"))["stages"]["dataset"]["inputs"]
    assert {"BTC/USDT:USDT 4h", "ETH/USDT:USDT 4h"} <= inputs.keys()


def test_a_gap_leaves_no_candle_made_over_it(folder: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    frame = pl.read_ipc(folder / "BTC_USDT_USDT-1h-futures.feather")
    frame.filter(pl.col("date") != START + timedelta(hours=401)).write_ipc(torn / "BTC_USDT_USDT-1h-futures.feather")
    config = config_of(torn, tmp_path / "run", BOTH, "data.pairs=['BTC/USDT:USDT']")
    candles = load_timeframes(config, "BTC/USDT:USDT").of("4h")
    assert START + timedelta(hours=400) not in candles.frame["date"].to_list()
    assert (candles.report["rows"], candles.report["gaps"]) == (749, 1)
    run, _ = built(config)
    assert audit(config, run, 180, SilentReporter()).clean


def test_files_of_two_markets_are_refused(folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("BTC", "ETH"):
        pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather").write_ipc(
            mixed / f"{name}_USDT_USDT-1h-futures.feather"
        )
    prices = pl.col("open", "high", "low", "close") * 1.02
    four_hours(folder).with_columns(prices).write_ipc(mixed / "BTC_USDT_USDT-4h-futures.feather")
    with pytest.raises(InputError, match=r"4h-futures\.feather: the candle of 2024-01-01 00:00 closes at .* different"):
        built(config_of(mixed, tmp_path / "run", BOTH))


def test_cutting_the_history_leaves_earlier_rows_as_they_were(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.mkdir()
    for name in ("BTC", "ETH"):
        pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather").head(2001).write_ipc(
            short / f"{name}_USDT_USDT-1h-futures.feather"
        )
    whole, cut = (
        survey_rows(config_of(place, tmp_path, BOTH, "dataset.test_start=2024-03-20")) for place in (folder, short)
    )
    assert cut == whole


def survey_rows(config: Config) -> list[tuple[object, ...]]:
    """What is chosen, which depends on every candidate before `dataset.test_start`."""
    return draw_sample(config, survey(config, SilentReporter()), SilentReporter()).chosen.rows()


@pytest.mark.parametrize("method", ["volatility", "triple_barrier"])
def test_the_other_rules_audit_clean_on_a_simulated_market(tmp_path: Path, method: str) -> None:
    more = (BOTH, f"labels.method={method}", "simulate.enabled=true", "simulate.years=1")
    config = config_of(tmp_path, tmp_path / "run", *more)
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    config = prepare(config, run, reporter)
    run_stage(STAGE, config, run, reporter)
    meta = read_examples(run).meta
    assert set(meta["timeframe"]) == {"1h", "4h"}
    assert audit(config, run, 60, SilentReporter()).clean


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("dataset.timeframes=['4h']",), r"name each timeframe once, data\.timeframe \(1h\) among them"),
        (("dataset.timeframes=['1h', '1h', '4h']",), "name each timeframe once"),
        (("dataset.timeframes=['1h', '30m']",), "30m is not a multiple of 1h that divides a day"),
        (("dataset.timeframes=['1h', '5h']",), "5h is not a multiple of 1h that divides a day"),
        (("dataset.timeframes=['1h', '1d']",), "1d does not divide the horizon of 12 candles of 1h"),
        (("dataset.timeframes=['1h', '8h']", "labels.horizon=8"), "12h|every one longer than 8h"),
        ((BOTH, "labels.method=volatility", "labels.volatility_window=7"), "fewer than two of 4h"),
    ],
)
def test_what_cannot_be_combined_is_refused(settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(None, settings)


def test_the_shared_four_hour_candles(shared_data: Path, tmp_path: Path) -> None:
    """Real 4h files from 2025-02 on, candles made from 1h before them; the two agree wherever both exist."""
    config = config_of(shared_data, tmp_path, BOTH, "dataset.per_class=1000", "dataset.test_start=2025-05-01")
    run, _ = built(config)
    meta, manifest = read_examples(run).meta, read_json(run.dataset_manifest)
    assert manifest["counts"] == {"BUY": 1000, "SELL": 1000, "HOLD": 1000}
    assert manifest["candles"]["BTC 4h"]["file"] == "BTC_USDT_USDT-4h-futures.feather"
    assert manifest["candles"]["BTC 4h"]["resampled"] == 12733 - 900
    late = meta.filter((pl.col("timeframe") == "4h") & (pl.col("decision_time").dt.year() == 2025))
    assert len(late) > 10
    assert 0.15 < meta["timeframe"].eq("4h").mean() < 0.25  # type: ignore[operator]
    result = audit(config, run, 60, SilentReporter())
    assert (result.problems, result.train_rows_overlapping_eval) == ((), 0)
