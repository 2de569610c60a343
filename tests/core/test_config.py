"""Configuration: the plan's defaults, overrides, and errors that name file and key."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from candletune.config import Config, load_config, parse_assignment, timeframe_minutes
from candletune.errors import UsageError


def test_defaults_are_the_plans() -> None:
    config = Config()
    train = config.train
    assert (train.lora_rank, train.lora_alpha, train.target_modules) == (8, 16, ("q_proj", "v_proj"))
    assert (train.dropout, train.epochs, train.effective_batch) == (0.05, 3.0, 32)
    assert (train.learning_rate, train.schedule, train.warmup) == (2e-4, "cosine", 0.03)
    assert (train.quantization, train.double_quant, train.optimizer) == ("nf4", True, "paged_adamw_8bit")
    assert (train.gradient_checkpointing, train.bf16, train.max_sequence_length) == (True, True, 2048)
    assert (config.labels.horizon, config.labels.threshold) == (12, 0.02)
    assert (config.dataset.per_class, config.dataset.eval_fraction) == (1000, 0.1)
    assert (config.evaluate.move, config.evaluate.min_gain, config.evaluate.max_flip_increase) == (0.01, 0.05, 0.10)
    assert config.base.model == "mistralai/Ministral-8B-Instruct-2410"
    assert config.data.pairs == ("BTC/USDT:USDT", "ETH/USDT:USDT")


def test_assignments_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "candletune.toml"
    file.write_text('seed = 3\n[dataset]\nper_class = 10\n[base]\nmodel = "tiny"\n')
    config = load_config(file, ["dataset.per_class=20", "dataset.test_start=2025-01-01", "base.model=some/name"])
    assert (config.seed, config.dataset.per_class, config.base.model) == (3, 20, "some/name")
    assert config.dataset.test_start == datetime(2025, 1, 1, tzinfo=UTC)


def test_naive_times_are_utc_and_others_are_converted() -> None:
    config = load_config(None, ["replay.start=2025-01-01T02:00:00+02:00", "replay.end=2025-01-02T00:00:00"])
    assert config.replay.start == datetime(2025, 1, 1, tzinfo=UTC)
    assert config.replay.end == datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "parts", "value"),
    [
        ("a.b=1", ["a", "b"], 1),
        ("a.b=1e-3", ["a", "b"], 1e-3),
        ('a.b=["x", "y"]', ["a", "b"], ["x", "y"]),
        ("a.b=some text", ["a", "b"], "some text"),
        ("a.b=x=y", ["a", "b"], "x=y"),
        ("seed=4", ["seed"], 4),
    ],
)
def test_parse_assignment(text: str, parts: list[str], value: object) -> None:
    assert parse_assignment(text) == (parts, value)


@pytest.mark.parametrize("text", ["a.b", "=1", "a..b=1", ".a=1"])
def test_bad_assignments(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected table\.key=value"):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[train]\nlora_rnak = 4\n", r"train\.lora_rnak: unknown key \(did you mean lora_rank\?\)"),
        ("[tarin]\n", r"tarin: unknown key \(did you mean train\?\)"),
        ("[run]\nzzz = 1\n", r"run\.zzz: unknown key; known keys: folder"),
        ("[train]\ndropout = 2\n", r"train\.dropout: .*less than 1.*got 2"),
        ("[data]\ntimeframe = '1x'\n", r"data\.timeframe: expected a timeframe such as 15m.*got '1x'"),
        ("[data]\ncontext_timeframes = ['90m']\n", r"90m is not a longer multiple of 1h"),
        ("[train]\nbatch_size = 64\n", r"train\.batch_size: larger than train\.effective_batch"),
        ("[train]\nsoft_target = 1\n[labels]\nshuffle = true\n", r"train\.soft_target: .*labels\.shuffle=false"),
        ("[train]\nsoft_target = 1\n[labels]\nmethod = 'volatility'\n", r"train\.soft_target: .*method=fixed"),
        ("[train\n", r"not valid TOML"),
        ("seed = 'x'\n", r"seed: .*integer.*got 'x'"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; `candletune init` writes one"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_not_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)


def test_assignment_through_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="seed is a value, not a table"):
        load_config(None, ["seed=1", "seed.x=2"])


def test_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.lora_rank = 4  # type: ignore[misc]


@pytest.mark.parametrize(("text", "minutes"), [("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440), ("1w", 10080)])
def test_timeframe_minutes(text: str, minutes: int) -> None:
    assert timeframe_minutes(text) == minutes


def test_candle_and_horizon_follow_a_copy() -> None:
    config = load_config(None, ["data.timeframe=4h", "data.context_timeframes=['1d']", "labels.horizon=3"])
    assert (config.candle, config.horizon) == (timedelta(hours=4), timedelta(hours=12))
    copy = config.model_copy(update={"data": config.data.model_copy(update={"timeframe": "15m"})})
    assert (copy.candle, copy.horizon) == (timedelta(minutes=15), timedelta(minutes=45))
