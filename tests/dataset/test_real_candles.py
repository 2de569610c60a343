"""The stage on the shared BTC and ETH candles: the contract, and an audit that shares no code with the build."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest

from candletune.artifacts import DatasetAudit, DatasetSummary
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.dataset import audit, decision_rows, read_examples
from candletune.decisions import DECISIONS
from candletune.files import read_json
from candletune.prompts.context import context_of
from candletune.prompts.grounding import check_reason
from candletune.prompts.parse import parse_answer
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE
from candletune.stages.runner import run_stage

TEST_START = datetime(2025, 1, 1, tzinfo=UTC)


def config_of(shared_data: Path, folder: Path, *more: str) -> Config:
    return load_config(
        None,
        [
            f"data.folder='{shared_data}'",
            f"data.fear_greed='{shared_data / 'fear_greed.csv'}'",
            f"data.headlines='{shared_data / 'headlines.csv'}'",
            "dataset.test_start=2025-01-01",
            f"run.folder='{folder}'",
            *more,
        ],
    )


@pytest.fixture(scope="module")
def config(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return config_of(shared_data, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def run(config: Config) -> RunFolder:
    run = RunFolder(config.run.folder)
    run_stage(STAGE, config, run, SilentReporter())
    return run


def test_exactly_three_thousand_lines_of_the_contracts_form(run: RunFolder) -> None:
    lines = run.file("dataset", "lora_training.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3000
    labels: Counter[str | None] = Counter()
    for line in lines:
        record = json.loads(line)
        assert list(record) == ["messages"]
        user, assistant = record["messages"]
        assert (list(user), list(assistant)) == (["role", "content"], ["role", "content"])
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert "[INST]" not in user["content"]
        assert "<s>" not in user["content"]
        labels[parse_answer(assistant["content"]).action] += 1
    assert labels == {"BUY": 1000, "SELL": 1000, "HOLD": 1000}


def test_every_label_recomputed_from_the_candles_in_exact_arithmetic(run: RunFolder, shared_data: Path) -> None:
    examples = read_examples(run)
    closes: dict[str, dict[datetime, float]] = {}
    for asset in ("BTC", "ETH"):
        frame = pl.read_ipc(shared_data / "futures" / f"{asset}_USDT_USDT-1h-futures.feather")
        closes[asset] = dict(zip(frame["date"].to_list(), frame["close"].to_list(), strict=True))
    for row, completion in zip(examples.meta.iter_rows(named=True), examples.completions, strict=True):
        opened = row["decision_time"] - timedelta(hours=1)
        window = [Fraction(str(closes[row["asset"]][opened + timedelta(hours=hour)])) for hour in range(13)]
        change = window[-1] / window[0] - 1
        label = "BUY" if change > Fraction(1, 50) else "SELL" if change < Fraction(-1, 50) else "HOLD"
        assert row["label"] == label == parse_answer(completion).action
        assert row["forward_return"] == pytest.approx(float(change), abs=1e-12)
        assert row["close"] == float(window[0])


def test_every_claim_of_every_completion_holds(run: RunFolder) -> None:
    examples = read_examples(run)
    claims = 0
    for row, completion in zip(examples.meta.iter_rows(named=True), examples.completions, strict=True):
        found = check_reason(parse_answer(completion).reasoning, context_of(row))
        assert [claim.text for claim in found if not claim.holds] == [], completion
        assert len(found) >= 2, completion
        claims += len(found)
    assert claims > 6000


def test_no_wording_makes_up_more_than_fifteen_percent_of_its_class(run: RunFolder) -> None:
    meta = read_examples(run).meta
    for label in DECISIONS:
        names = meta.filter(label=label)["reason_template"].value_counts(sort=True)
        assert len(names) >= 12
        assert names["count"][0] / 1000 <= 0.15
    sentences = Counter(completion.partition(" - ")[2] for completion in read_examples(run).completions)
    assert max(sentences.values()) <= 3


def test_the_audit_of_three_hundred_rows_is_clean(config: Config, run: RunFolder) -> None:
    result = audit(config, run, 300, SilentReporter())
    assert result.problems == ()
    assert (result.rebuilt, result.clean, result.duplicate_prompts) == (300, True, 0)
    assert result.train_rows_overlapping_eval == 0
    assert result.nearest_train_eval_hours is not None and result.nearest_train_eval_hours > 24
    assert 0 < result.effective_pooled < result.effective_per_asset < 3000
    assert DatasetAudit.read(run.file("audit", "audit.json")) == result


def test_split_purge_embargo_and_test_period(run: RunFolder) -> None:
    meta, manifest = read_examples(run).meta, read_json(run.file("dataset", "manifest.json"))
    boundary = datetime.fromisoformat(manifest["eval_boundary"])
    train, evaluation = (meta.filter(split=name)["decision_time"] for name in ("train", "eval"))
    assert (len(train), len(evaluation)) == (2700, 300)
    assert max(train) + timedelta(hours=24) < boundary <= min(evaluation)
    assert max(evaluation) < TEST_START - timedelta(hours=24)
    assert meta.group_by("split", "label").len()["len"].sort().to_list() == [100] * 3 + [900] * 3


def test_sampled_evenly_over_assets_and_months(run: RunFolder) -> None:
    train = read_examples(run).meta.filter(split="train")
    by_asset = train.group_by("label", "asset").len()["len"]
    assert max(by_asset) - min(by_asset) <= 0.06 * 900
    by_month = train.group_by("label", "asset", pl.col("decision_time").dt.truncate("1mo")).len()
    for label in DECISIONS:
        # 60 months of two assets: 7 or 8 of each where a month has as many.
        assert max(by_month.filter(label=label)["len"]) <= 12


def test_natural_rows_keep_the_shares_of_life(run: RunFolder) -> None:
    natural = pl.read_parquet(run.file("dataset", "natural_eval.parquet"))
    manifest = read_json(run.file("dataset", "manifest.json"))
    assert len(natural) == 500
    assert natural["prompt"].str.starts_with("You are").all()
    assert (natural["label"] == "HOLD").mean() == pytest.approx(0.7, abs=0.1)
    assert min(natural["decision_time"]) >= datetime.fromisoformat(manifest["eval_boundary"])
    assert manifest["natural_prior"]["BUY"] == pytest.approx(0.164, abs=0.002)


def test_served_rows_are_the_trained_rows(config: Config, run: RunFolder) -> None:
    """`decision_rows` (replay, verify, shadow) renders the very bytes that were trained on."""
    examples = read_examples(run)
    place = 1500
    time = examples.meta["decision_time"][place]
    rows = decision_rows(config, start=time, end=time + timedelta(hours=1))
    assert rows["decision_time"].unique().to_list() == [time]
    served = rows.filter(asset=examples.meta["asset"][place])["prompt"].item()
    assert served == examples.prompts[place]


def test_the_seed_decides_everything(shared_data: Path, run: RunFolder, tmp_path: Path) -> None:
    for name, seed in (("same", 17), ("other", 18)):
        config = config_of(shared_data, tmp_path / name, f"seed={seed}")
        run_stage(STAGE, config, RunFolder(config.run.folder), SilentReporter())
    first = run.file("dataset", "lora_training.jsonl").read_bytes()
    assert (tmp_path / "same/dataset/lora_training.jsonl").read_bytes() == first
    assert (tmp_path / "other/dataset/lora_training.jsonl").read_bytes() != first


@pytest.mark.parametrize("method", ["volatility", "triple_barrier"])
def test_the_other_labels_build_and_audit_clean(shared_data: Path, tmp_path: Path, method: str) -> None:
    config = config_of(shared_data, tmp_path, f"labels.method={method}", "dataset.per_class=2000")
    run = RunFolder(tmp_path)
    summary = run_stage(STAGE, config, run, SilentReporter()).summary_as(DatasetSummary)
    assert summary.counts == {"BUY": 2000, "SELL": 2000, "HOLD": 2000}
    assert audit(config, run, 20, SilentReporter()).clean


def test_four_hour_candles(shared_data: Path, tmp_path: Path) -> None:
    more = ("data.timeframe=4h", "data.context_timeframes=['12h', '1d']", "dataset.test_start=2025-06-20")
    config = config_of(shared_data, tmp_path, *more, "dataset.per_class=100", "labels.horizon=3")
    summary = run_stage(STAGE, config, RunFolder(tmp_path), SilentReporter()).summary_as(DatasetSummary)
    assert min(summary.counts.values()) >= 50
    assert audit(config, RunFolder(tmp_path), 20, SilentReporter()).clean
    assert "4h bullish" not in read_examples(RunFolder(tmp_path)).prompts[0]
