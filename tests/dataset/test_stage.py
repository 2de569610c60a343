"""Choosing, balancing, writing and reading back, on small simulated histories; and an audit that can say no."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candletune.artifacts import DatasetManifest
from candletune.cli import main
from candletune.config import Config, DataConfig
from candletune.console import SilentReporter
from candletune.dataset import audit, decision_rows, draw_sample, read_examples, survey
from candletune.dataset.overlap import average_uniqueness, describe_dataset
from candletune.dataset.sampling import Sample, split_counts
from candletune.errors import CheckFailed, InputError, UsageError
from candletune.fields.columns import WARM_UP, indicator_rows
from candletune.market import sentiment
from candletune.market.candles import Candles
from candletune.market.headlines import Headlines, read_headlines
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage
from random_models import random_base
from random_walk import START, built, config_of, write_walks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("candles"), BTC=3000, ETH=3000)


def chosen_of(config: Config) -> Sample:
    return draw_sample(config, survey(config, SilentReporter()), SilentReporter())


def labels_in_all(config: Config) -> dict[str, int]:
    return dict(chosen_of(config).cells.group_by("label").agg(pl.col("rows").sum()).iter_rows())


def test_row_order_and_a_file_in_two_formats_change_nothing(folder: Path, tmp_path: Path) -> None:
    run, _ = built(config_of(folder, tmp_path / "run"))
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for name in ("BTC", "ETH"):
        frame = pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather")
        mixed = pl.concat([frame.sample(fraction=1.0, shuffle=True, seed=1), frame.head(50)])
        mixed.write_parquet(shuffled / f"{name}_USDT_USDT-1h-futures.parquet")
    again, reporter = built(config_of(shuffled, tmp_path / "again"))
    for name in ("lora_training.jsonl", "lora_training.meta.parquet", "natural_eval.parquet"):
        assert again.file("dataset", name).read_bytes() == run.file("dataset", name).read_bytes()
    assert sum("out of order or doubled; mended in memory" in warning for warning in reporter.warnings) == 2


def test_all_of_the_smallest_class(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, "dataset.per_class=5000", "dataset.test_start=2024-04-20")
    run, reporter = built(config)
    meta = read_examples(run).meta
    counts = dict(meta.group_by("label").len().iter_rows())
    assert len(set(counts.values())) == 1
    assert counts["BUY"] < 5000
    assert any("the rarest class has no more" in warning for warning in reporter.warnings)
    # Nothing of the rarest class of the train split is left over.
    rarest = min(chosen_of(config).cells.filter(split="train").group_by("label").agg(pl.col("rows").sum())["rows"])
    assert min(meta.filter(split="train").group_by("label").len()["len"]) == rarest


@pytest.mark.parametrize(
    ("wanted", "train", "evaluation", "counts"),
    [(1000, 9000, 900, (900, 100)), (1000, 9000, 40, (960, 40)), (1000, 500, 900, (500, 500)), (10, 3, 2, (3, 2))],
)
def test_split_counts(wanted: int, train: int, evaluation: int, counts: tuple[int, int]) -> None:
    assert split_counts(wanted, 0.1, train, evaluation) == {"train": counts[0], "eval": counts[1]}


def test_balance_takes_from_every_month_and_asset_first(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, "dataset.per_class=10")
    choice = chosen_of(config)
    chosen = choice.chosen.filter(split="train")
    months = choice.cells.filter(split="train")["month"].n_unique()
    for label in ("BUY", "SELL", "HOLD"):
        cells = chosen.filter(label=label).group_by("asset", pl.col("decision_time").dt.strftime("%Y-%m")).len()
        assert len(cells) == min(9, 2 * months)
    assert chosen_of(config).chosen.equals(choice.chosen)


def test_a_random_split_warns_and_its_audit_says_no(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, "dataset.split=random")
    run, reporter = built(config)
    assert any(warning.startswith("dataset.split=random leaks") for warning in reporter.warnings)
    result = audit(config, run, 5, SilentReporter())
    assert not result.clean
    assert "share outcome candles with eval rows" in result.problems[-1]


def test_the_audit_finds_what_was_changed(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    run, _ = built(config)
    path, sidecar = run.file("dataset", "lora_training.jsonl"), run.file("dataset", "lora_training.meta.parquet")
    lines, meta = path.read_text().splitlines(), pl.read_parquet(sidecar)
    lines[3] = lines[3].replace("RSI(14)", "RSI(41)")
    path.write_text("\n".join(lines) + "\n")
    row = pl.int_range(pl.len())
    meta.with_columns(
        rsi=pl.when(row == 5).then(pl.col("rsi") + 1e-9).otherwise(pl.col("rsi")),
        label=pl.when(row == 7).then(pl.lit("NONE")).otherwise(pl.col("label")),
        forward_return=pl.when(row == 9).then(pl.col("forward_return") + 1e-6).otherwise(pl.col("forward_return")),
    ).write_parquet(sidecar)
    problems = audit(config, run, len(meta), SilentReporter()).problems
    found = "\n".join(problems)
    assert len(problems) == 4
    for words in ("the prompt has other bytes", "rsi is ", ", not NONE", "the return is "):
        assert words in found


def context_files(folder: Path) -> list[str]:
    """Fear & Greed given out at 18:00 with an offset, and headlines of every few hours; the settings that name them."""
    days = [START + timedelta(days=day, hours=18) for day in range(140)]
    values = [
        f"{day.astimezone(timezone(timedelta(hours=-4))).isoformat()},{10 + 7 * n % 80}" for n, day in enumerate(days)
    ]
    (folder / "fear.csv").write_text("\n".join(["date,value", *values]) + "\n")
    news = [
        f"{(START + timedelta(hours=7 * n, minutes=13)).isoformat()},{(-1) ** n * (n % 9) / 10},Headline {n}"
        for n in range(480)
    ]
    (folder / "news.csv").write_text("\n".join(["published_at,polarity,title", *news]) + "\n")
    return [f"data.fear_greed='{folder / 'fear.csv'}'", f"data.headlines='{folder / 'news.csv'}'"]


def test_the_audit_reads_the_context_files_by_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that cuts clock times off, as ours did, looks a day ahead; its own rebuilt rows agree with it."""
    files = context_files(tmp_path)
    config = config_of(folder, tmp_path / "clean", *files)
    assert audit(config, built(config)[0], 20, SilentReporter()).clean

    def cut_off(path: Path) -> pl.DataFrame:
        frame = pl.read_csv(path, infer_schema=False).select("date", pl.col("value").cast(pl.Float64))
        day = pl.col("date").str.slice(0, 10).str.to_date("%Y-%m-%d")
        return frame.select(published=day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), value="value")

    monkeypatch.setattr(sentiment, "_read_fear_greed_csv", cut_off)
    config = config_of(folder, tmp_path / "ahead", *files)
    problems = audit(config, built(config)[0], 20, SilentReporter()).problems
    assert all("fear_greed is " in problem for problem in problems[:-1])
    assert len(problems) == 21
    assert "more differences like these" in problems[-1]


def test_the_audit_sees_headlines_from_the_future(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = context_files(tmp_path)

    def early(path: Path, data: DataConfig) -> Headlines:
        told = read_headlines(path, data)
        return replace(told, frame=told.frame.with_columns(pl.col("known_at") - pl.duration(hours=5)))

    monkeypatch.setattr("candletune.market.sentiment.read_headlines", early)
    config = config_of(folder, tmp_path / "run", *files)
    problems = audit(config, built(config)[0], 20, SilentReporter()).problems
    found = "\n".join(problems)
    for words in ("headlines are 'Headline", "news_sentiment is ", "sentiment_confidence is "):
        assert words in found


def test_the_audit_needs_the_pairs_it_was_built_from(folder: Path, tmp_path: Path) -> None:
    run, _ = built(config_of(folder, tmp_path))
    with pytest.raises(InputError, match=r"which data\.pairs does not name"):
        audit(config_of(folder, tmp_path, "data.pairs=['BTC/USDT:USDT']"), run, 180, SilentReporter())


def test_shuffled_labels_keep_their_shares_and_audit_clean(folder: Path, tmp_path: Path) -> None:
    plain = config_of(folder, tmp_path / "a")
    shuffled = config_of(folder, tmp_path / "b", "labels.shuffle=true")
    one, two = (labels_in_all(config) for config in (plain, shuffled))
    assert one == two
    mine, other = chosen_of(plain).natural, chosen_of(shuffled).natural
    assert mine["decision_time"].equals(other["decision_time"])
    assert 0 < (mine["label"] == other["label"]).mean() < 1  # type: ignore[operator]
    run, _ = built(shuffled)
    assert audit(shuffled, run, 10, SilentReporter()).clean


def test_a_range_of_decision_times(folder: Path, tmp_path: Path) -> None:
    more = ("dataset.train_start=2024-02-01", "dataset.test_start=2024-04-01")
    meta = read_examples(built(config_of(folder, tmp_path, *more))[0]).meta
    assert min(meta["decision_time"]) >= datetime(2024, 2, 1, tzinfo=UTC)
    assert max(meta["decision_time"]) < datetime(2024, 3, 31, tzinfo=UTC)


def test_average_uniqueness_by_hand() -> None:
    """Windows [0, 3), [1, 4), [9, 12): steps 1 and 2 are shared by two."""
    found = average_uniqueness(np.array([0, 1, 9]), 3)
    assert found.tolist() == pytest.approx([(1 + 0.5 + 0.5) / 3, (0.5 + 0.5 + 1) / 3, 1.0])
    assert average_uniqueness(np.array([4, 4]), 5).tolist() == pytest.approx([0.5, 0.5])


def test_distances_and_overlap_by_hand() -> None:
    hours, splits = [0, 30, 50, 55], ["train", "train", "eval", "eval"]
    times = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    meta = pl.DataFrame(
        {"asset": ["BTC"] * 4, "decision_time": times, "split": splits, "label": ["BUY", "HOLD", "BUY", "SELL"]}
    )
    found = describe_dataset(Config(), meta, ["a", "b", "b", "c"])
    assert found.nearest_train_eval_hours == 20
    assert found.duplicate_prompts == 1
    assert found.train_rows_overlapping_eval == 0
    close = meta.with_columns(decision_time=pl.col("decision_time").replace(times[1], times[2] - timedelta(hours=11)))
    assert describe_dataset(Config(), close, ["a"] * 4).train_rows_overlapping_eval == 1
    only = meta.filter(split="train")
    assert describe_dataset(Config(), only, ["a", "b"]).nearest_train_eval_hours is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("not json\n", "line 1 is not a user and an assistant message"),
        ('{"messages": []}\n', "line 1 is not"),
        (json.dumps({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}), "line 1 is"),
        ("", "0 lines but 180 sidecar rows"),
    ],
)
def test_a_broken_dataset_is_refused(folder: Path, tmp_path: Path, body: str, words: str) -> None:
    run, _ = built(config_of(folder, tmp_path))
    run.file("dataset", "lora_training.jsonl").write_text(body)
    with pytest.raises(InputError, match=words):
        read_examples(run)


def test_a_missing_dataset_names_the_command(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="run `candletune dataset` first"):
        read_examples(RunFolder(tmp_path))
    run, _ = built(config_of(folder, tmp_path))
    run.file("dataset", "lora_training.meta.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        read_examples(run)


def test_an_untrue_reason_stops_the_build(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package exports the function `build` under the module's own name.
    module = import_module("candletune.dataset.render")
    monkeypatch.setattr(module, "write_reason", lambda *_: ("BUY/x/0", "RSI of 3.2 is oversold."))
    with pytest.raises(CheckFailed, match="is not true of the row"):
        built(config_of(folder, tmp_path))
    assert not (tmp_path / "dataset").exists()


@pytest.mark.llamacpp
def test_the_card_shows_the_bases_own_chat(folder: Path, tmp_path: Path) -> None:
    """ChatML's turns for a base that is asked in them, from its folder; the GGUF says the same once it is written."""
    prompts = ["DECISION: BUY - a word.", "DECISION: SELL - another.", "DECISION: HOLD - none."]
    base = random_base("llama", tmp_path / "base", prompts * 20)
    config = config_of(folder, tmp_path, f"base.model={base}")
    run, _ = built(config)
    card = run.file("dataset", "card.html").read_text(encoding="utf-8")
    assert "&lt;|im_start|&gt;user" in card and "[INST]" not in card
    assert "&lt;|im_end|&gt;\n&lt;|im_start|&gt;assistant" in card
    run_stage(stage("base"), config, run, SilentReporter())
    audit(config, run, 3, SilentReporter())
    assert "&lt;|im_start|&gt;user" in run.file("audit", "card.html").read_text(encoding="utf-8")
    tiny = config_of(folder, tmp_path, "base.model=tiny", f"run.folder={tmp_path / 'other'}")
    run, _ = built(tiny)
    assert "&lt;s&gt;[INST]" in run.file("dataset", "card.html").read_text(encoding="utf-8"), "without building it"


def test_the_card_shows_the_audit_and_the_examples(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    run, _ = built(config)
    before = run.file("dataset", "card.html").read_text(encoding="utf-8")
    audit(config, run, 7, SilentReporter())
    after = run.file("audit", "card.html").read_text(encoding="utf-8")
    assert "candletune dataset --audit 300" in before
    assert "7, all the same" in after
    assert "kept out for the replay: from 2024-03-25 on, 33 % of the candles" in before
    first = read_examples(run).prompts[0]
    assert "[INST]" not in after
    assert "The base is not on this machine yet" in after
    assert first.split("\n")[0][:60] in after
    for name in ("shares", "classes", "months", "reasons", "indicator_rsi"):
        assert f'data-plot="card_{name}"' in after
    assert "http://" not in after.partition("<script>")[0]


def test_the_audit_command_says_what_it_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"data.folder": folder, "run.folder": tmp_path / "run", "dataset.per_class": 40}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    empty = tmp_path / "empty.toml"
    empty.touch()
    for split, code in (("chronological", 0), ("random", 4)):
        with pytest.raises(SystemExit) as left:
            main(["dataset", "--config", str(empty), "--audit", "9", *options, "--set", f"dataset.split={split}"])
        assert int(left.value.code or 0) == code
        said = " ".join(capsys.readouterr().err.split())
        assert "audit 9 rows rebuilt from cut candles" in said
        assert ("error: audit: 1 problems, the first:" in said) == bool(code)


def test_candles_that_do_not_divide_a_day_have_no_daily_change(folder: Path) -> None:
    frame = pl.read_ipc(folder / "BTC_USDT_USDT-1h-futures.feather")
    with pytest.raises(UsageError, match="7h does not divide a day"):
        indicator_rows(Candles(frame, {}, folder, "BTC", "7h"))


def test_a_pair_without_enough_candles_is_said_and_the_other_serves(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name, rows in (("BTC", 3000), ("ETH", 100)):
        frame = pl.read_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather").head(rows)
        frame.filter(pl.int_range(pl.len()) != 50).write_ipc(few / f"{name}_USDT_USDT-1h-futures.feather")
    run, reporter = built(config_of(few, tmp_path / "run"))
    assert any("99 candles give no labelled row" in warning for warning in reporter.warnings)
    assert read_examples(run).meta["asset"].unique().to_list() == ["BTC"]
    assert audit(config_of(few, tmp_path / "run"), run, 180, SilentReporter()).clean


def test_decision_rows_of_a_range(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    every = decision_rows(config)
    # All decision times after the warm-up, the last ones too: what has no outcome yet can still be decided on.
    assert len(every) == 2 * (3000 - WARM_UP)
    start = START + timedelta(hours=1000)
    some = decision_rows(config, start=start, end=start + timedelta(hours=5))
    assert len(some) == 10
    assert some.equals(every.filter(pl.col("decision_time").is_between(start, start + timedelta(hours=4))))
    assert some["decision_time"].is_sorted()


def test_a_manifest_of_an_earlier_candletune_is_read_and_a_broken_one_named(folder: Path, tmp_path: Path) -> None:
    run, _ = built(config_of(folder, tmp_path))
    path = run.dataset_manifest
    manifest, content = DatasetManifest.read(path), json.loads(path.read_text())
    assert content["train_end"] == manifest.train_end.isoformat() and content["train_end"].endswith("+00:00")
    for key in ("version", "test_start", "test_start_default", "test_share"):
        del content[key]
    del content["candidates"]["by_timeframe"], content["candles"]["BTC"]["resampled"]
    path.write_text(json.dumps(content))
    earlier = DatasetManifest.read(path)
    assert (earlier.test_start, earlier.natural_prior) == (None, manifest.natural_prior)
    path.write_text(json.dumps(content | {"train_end": "soon"}))
    with pytest.raises(InputError, match=r"manifest\.json: train_end: .*; run `candletune dataset --force` again"):
        DatasetManifest.read(path)
