"""`data.pairs` as patterns: which files count, what they are called, and what stays as it is."""

from pathlib import Path

import pytest

from candletune.config import load_config
from candletune.config_pairs import matching_pairs
from candletune.errors import InputError, UsageError
from candletune.market.candles import find_candle_file

FILES = (
    "futures/BTC_USDT_USDT-1h-futures.feather",
    "futures/ETH_USDT_USDT-1h-futures.feather",
    "futures/ETH_USDT_USDT-4h-futures.feather",
    "futures/ETH_USDT_USDT-240329-1h-futures.feather",
    "futures/BTC_USDT_USDT-8h-funding_rate.feather",
    "BTC_USDT-1h.feather",
    "SOL_USDT-1h.json.gz",
    "DOGE_EUR-1h.csv",
    "ADA_USDT-4h.feather",
    "notes.txt",
)
FUTURES = ("BTC/USDT:USDT", "ETH/USDT:USDT")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("all",), ("BTC/USDT:USDT", "DOGE/EUR", "ETH/USDT:USDT", "SOL/USDT")),
        (("*/USDT:USDT",), FUTURES),
        (("*/USDT*",), (*FUTURES, "SOL/USDT")),
        (("SOL/USDT", "all"), ("SOL/USDT", "BTC/USDT:USDT", "DOGE/EUR", "ETH/USDT:USDT")),
        (("[BE]T?/USDT:USDT",), FUTURES),
        (("BTC/USDT",), ("BTC/USDT",)),
        (("*/JPY",), ("*/JPY",)),
    ],
)
def test_patterns(folder: Path, names: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert matching_pairs(names, folder, "1h") == found


def test_every_pair_found_has_a_file_that_is_read(folder: Path) -> None:
    for pair in matching_pairs(("all",), folder, "1h"):
        assert find_candle_file(folder, pair, "1h").is_file()


def test_the_configuration_names_the_pairs(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "candletune.toml"
    file.write_text(f"[data]\nfolder = '{folder}'\npairs = 'all'\n")
    assert load_config(file).data.pairs == ("BTC/USDT:USDT", "DOGE/EUR", "ETH/USDT:USDT", "SOL/USDT")
    assert load_config(file, ["data.pairs=*/USDT:USDT,SOL/USDT"]).data.pairs == (*FUTURES, "SOL/USDT")
    assert load_config(file, ["data.timeframe=4h", "data.context_timeframes=1d"]).data.pairs == (
        "ADA/USDT",
        "ETH/USDT:USDT",
    )


def test_a_pattern_without_a_file_says_so_where_candles_are_read(tmp_path: Path) -> None:
    config = load_config(None, [f"data.folder={tmp_path}", "data.pairs=*/JPY"])
    with pytest.raises(InputError, match=r"no candles of \*/JPY 1h"):
        find_candle_file(config.data.folder, config.data.pairs[0], config.data.timeframe)


def test_a_simulated_market_needs_names() -> None:
    with pytest.raises(UsageError, match="a pattern names candle files"):
        load_config(None, ["simulate.enabled=true", "data.pairs=all"])
