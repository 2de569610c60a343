"""Configuration: the plan's defaults, overrides, and errors that name file and key."""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from candletune.base.find import trains_over_gguf
from candletune.base.load import storage_of
from candletune.config import Config, load_config, timeframe_minutes
from candletune.config_file import commented_toml
from candletune.config_source import parse_assignment
from candletune.errors import UsageError


def test_defaults_are_the_plans(tmp_path: Path) -> None:
    config = Config()
    train = config.train
    assert (train.lora_rank, train.lora_alpha, train.target_modules) == (8, 16, ("q_proj", "v_proj"))
    assert (train.dropout, train.epochs, train.effective_batch) == (0.05, 3.0, 32)
    assert (train.learning_rate, train.schedule, train.warmup) == (2e-4, "cosine", 0.03)
    assert trains_over_gguf(config), "the one default that is another: the blocks that are served"
    stored = storage_of(train.quantization, tmp_path)
    assert (stored, train.double_quant, train.optimizer) == ("nf4", True, "paged_adamw_8bit")
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
        ("[data]\ncontext_timeframes = ['90m']\n", r"90m is not a longer multiple of data\.timeframe, 1h"),
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


def test_paths_in_a_file_start_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "project", tmp_path / "elsewhere"
    (home / "bases" / "mine").mkdir(parents=True)
    here.mkdir()
    (home / "mine.toml").write_text(
        '[prompt]\ntemplate = "/abs/t.j2"\n'
        '[data]\nfolder = "candles"\n[base]\nmodel = "bases/mine"\ngguf = "~/b.gguf"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for folder, name in ((home, "mine.toml"), (here, "../project/mine.toml")):
        monkeypatch.chdir(folder)
        config = load_config(Path(name), ["evaluate.journal=log.jsonl"])
        assert config.data.folder == home / "candles"
        assert config.base.model == str(home / "bases" / "mine")
        assert config.base.gguf == tmp_path / "user" / "b.gguf"
        assert config.prompt.template == Path("/abs/t.j2")
        assert config.run.folder == home / "runs" / "default"
        assert config.live.state == home / "live" / "active.json"
        assert config.evaluate.journal == folder / "log.jsonl"


def test_a_name_on_the_hub_stays_a_name() -> None:
    assert load_config(None, ["base.model=somebody/a-model"]).base.model == "somebody/a-model"
    assert load_config(None, ["base.model=./a-model"]).base.model == str(Path.cwd() / "a-model")


def test_an_empty_path_is_none_where_none_is_allowed(tmp_path: Path) -> None:
    assert load_config(None, ["base.gguf=x.gguf", "base.gguf="]).base.gguf is None
    with pytest.raises(UsageError, match=r"--set data\.folder=: empty; give a path"):
        load_config(None, ["data.folder="])


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 3\n")
    assert load_config(file).seed == 3
    file.write_text("seed = 3\n", encoding="utf-16")
    with pytest.raises(UsageError, match="save it as UTF-8"):
        load_config(file)


@pytest.mark.parametrize("path", [r"C:\Users\me", r"C:\temp\candles", r"D:\xyz"])
def test_a_windows_path_in_double_quotes_gets_the_remedy(tmp_path: Path, path: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[data]\nfolder = "{path}"\n')
    with pytest.raises(UsageError, match="single quotes") as caught:
        load_config(file)
    assert "\n" not in str(caught.value)
    assert "folder" in str(caught.value)
    file.write_text(f"[data]\nfolder = '{path}'\n")
    assert load_config(file).data.folder.name.endswith(path)


def test_a_windows_path_survives_being_written() -> None:
    text = commented_toml({"data.folder": r"C:\Users\me", "incumbent.name": "o'brien\\x"})
    read = tomllib.loads(text)
    assert read["data"]["folder"] == r"C:\Users\me"
    assert read["incumbent"]["name"] == "o'brien\\x"
    assert r"folder = 'C:\Users\me'" in text


@pytest.mark.parametrize(
    ("assignment", "pairs"),
    [
        ("data.pairs=BTC/USDT:USDT", ("BTC/USDT:USDT",)),
        ("data.pairs=BTC/USDT:USDT, ETH/USDT", ("BTC/USDT:USDT", "ETH/USDT")),
        ("data.pairs='BTC/USDT,ETH/USDT'", ("BTC/USDT", "ETH/USDT")),
        ("data.pairs=['BTC/USDT']", ("BTC/USDT",)),
        ("data={pairs=['BTC/USDT']}", ("BTC/USDT",)),
    ],
)
def test_lists_on_the_command_line(assignment: str, pairs: tuple[str, ...]) -> None:
    assert load_config(None, [assignment]).data.pairs == pairs


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("dataset.per_class=x", r"^--set dataset\.per_class: .*integer.*got 'x'"),
        ("datset.per_class=5", r"^--set datset\.per_class: datset: unknown key \(did you mean dataset\?\)"),
        ("dataset.per_clas=5", r"^--set dataset\.per_clas: unknown key \(did you mean per_class\?\)"),
        ("train.batch_size=64", r"^--set train\.batch_size: larger than"),
        ("data.pairs=", r"^--set data\.pairs: name at least one"),
        ("dataset=5", r"^--set dataset: is a table, not a value; set a key of it, such as dataset\.per_class"),
        ("data.timeframe=4h", r"^--set data\.timeframe: data\.context_timeframes: 4h is not a longer multiple"),
        ("data.timeframe=1H", r"^--set data\.timeframe: expected a timeframe such as 15m, 1h, 4h or 1d, got '1H'$"),
        (
            "dataset.test_start=yesterday",
            r"^--set dataset\.test_start: expected a time such as .*'yesterday'$",
        ),
        ("dataset.test_start=2025", r"^--set dataset\.test_start: expected a time such as 2025-01-31 .*got 2025$"),
        ("dataset.test_start=0001-01-01T00:00+14:00", r"^--set dataset\.test_start: expected a time"),
        ("labels.threshold=inf", r"^--set labels\.threshold: .*finite"),
        ("evaluate.min_gain=nan", r"^--set evaluate\.min_gain: .*finite"),
        ("labels.horizon=999999999", r"^--set labels\.horizon: .*10000"),
        ("dataset.embargo=99999999999", r"^--set dataset\.embargo: .*100000"),
        ("simulate.years=1e9", r"^--set simulate\.years: .*50"),
        ("seed=4294967296", r"^--set seed: .*4294967296"),
        ("engine.threads=100000", r"^--set engine\.threads: .*1024"),
    ],
)
def test_a_wrong_assignment_is_blamed_on_itself(tmp_path: Path, assignment: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n")
    with pytest.raises(UsageError, match=message) as caught:
        load_config(file, [assignment])
    assert "mine.toml" not in str(caught.value)


def test_the_assignment_that_is_wrong_is_blamed_among_several(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--set dataset: is a table"):
        load_config(None, ["dataset.per_class=5", "dataset=5"])


def test_file_and_assignment_are_blamed_apart(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = -1\n")
    with pytest.raises(UsageError, match=r"mine\.toml: seed: .*; --set train\.epochs: .*got 0"):
        load_config(file, ["train.epochs=0"])


def test_text_stays_text_whatever_toml_thinks() -> None:
    assert load_config(None, ["run.folder=2025"]).run.folder == Path.cwd() / "2025"
    assert load_config(None, ["run.folder=2025-01-01"]).run.folder == Path.cwd() / "2025-01-01"
    assert load_config(None, ["incumbent.name=true"]).incumbent.name == "true"
    assert load_config(None, [r'run.folder="C:\Users\x"']).run.folder.name == r"C:\Users\x"


def test_overrides_are_values_not_text() -> None:
    given = Path('o\'brien/a "b" # c.jsonl')
    assert load_config(None, [], {"evaluate.journal": given}).evaluate.journal == Path.cwd() / given


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 20_000,
        b"a = " + b"{a = " * 20_000,
        b"seed = " + b"9" * 5_000,
        b"seed = 0x" + b"f" * 4_000,
        b"[dataset]\ntest_start = 0001-01-01T00:00:00+14:00",
        b'[dataset]\ntest_start = "0001-01-01T00:00:00+14:00"',
        b"\xff\xfe",
        b"\0",
        b'"\\u2028" = 1',
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_broken_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    """Some of these were internal errors."""
    path = tmp_path / "candletune.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"candletune\.toml") as refused:
        load_config(path, [])
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 20_000, "{a = " * 20_000])
def test_a_broken_assignment_is_a_sentence(value: str) -> None:
    with pytest.raises(UsageError, match="seed"):
        load_config(None, [f"seed={value}"])
