"""Candle files as users have them: every format reads the same, what can be mended is mended and counted."""

import gzip
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.errors import InputError
from candletune.market.candles import COLUMNS, check_candles, find_candle_file, load_candles, read_file, ticker_of

START = datetime(2024, 1, 1, tzinfo=UTC)


def frame_of(hours: list[int]) -> pl.DataFrame:
    dates = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    base = pl.Series([100.0 + hour / 3 for hour in hours])
    return pl.DataFrame(
        {"date": dates, "open": base, "high": base + 2, "low": base - 2, "close": base + 1, "volume": base}
    )


def write(frame: pl.DataFrame, path: Path) -> None:
    """A frame in the format the name asks for, as freqtrade writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".feather"):
        frame.with_columns(pl.col("date").cast(pl.Datetime("ms", "UTC"))).write_ipc(path, compression="lz4")
    elif path.name.endswith(".parquet"):
        frame.write_parquet(path)
    elif path.name.endswith(".csv"):
        frame.with_columns(pl.col("date").dt.strftime("%Y-%m-%d %H:%M:%S%:z")).write_csv(path)
    else:
        rows = [list(row) for row in frame.with_columns(pl.col("date").dt.epoch("ms")).iter_rows()]
        raw = json.dumps(rows).encode()
        path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)


def checked(frame: pl.DataFrame, timeframe: str = "1h") -> tuple[pl.DataFrame, dict[str, int]]:
    return check_candles(frame, Path("x.feather"), timeframe)


@pytest.mark.parametrize("ending", ["feather", "parquet", "json", "json.gz", "csv"])
@pytest.mark.parametrize("stem", ["BTC_USDT_USDT-1h-futures", "BTC_USDT_USDT-1h"])
def test_every_format_reads_the_same(tmp_path: Path, ending: str, stem: str) -> None:
    write(frame_of(list(range(30))), tmp_path / f"{stem}.{ending}")
    candles = load_candles(tmp_path, "BTC/USDT:USDT", "1h")
    assert candles.frame.equals(frame_of(list(range(30))))
    assert candles.frame.schema["date"] == pl.Datetime("us", "UTC")
    assert (candles.ticker, candles.timeframe) == ("BTC", "1h")
    assert tuple(candles.frame.columns) == COLUMNS


def test_csv_in_milliseconds_and_other_zones(tmp_path: Path) -> None:
    wanted = frame_of(list(range(30)))
    wanted.with_columns(pl.col("date").dt.epoch("ms")).write_csv(tmp_path / "BTC_USDT-1h.csv")
    assert load_candles(tmp_path, "BTC/USDT", "1h").frame.equals(wanted)
    moved = wanted.with_columns(pl.col("date").dt.convert_time_zone("Asia/Tokyo"))
    moved.write_parquet(tmp_path / "ETH_USDT-1h.parquet")
    assert load_candles(tmp_path, "ETH/USDT", "1h").frame.equals(wanted)


def test_futures_come_before_spot_and_the_folder_before_its_subfolder(tmp_path: Path) -> None:
    names = ["futures/BTC_USDT_USDT-1h-futures.feather", "BTC_USDT_USDT-1h.json", "BTC_USDT_USDT-1h-futures.csv"]
    for name in names:
        write(frame_of([0, 1]), tmp_path / name)
        assert find_candle_file(tmp_path, "BTC/USDT:USDT", "1h") == tmp_path / name
    with pytest.raises(InputError, match="no candles of BTC/USDT:USDT 4h"):
        find_candle_file(tmp_path, "BTC/USDT:USDT", "4h")


def test_a_clean_file_has_a_clean_report() -> None:
    _, report = checked(frame_of(list(range(30))))
    clean = {"reordered": 0, "duplicates": 0, "gaps": 0, "missing_candles": 0, "zero_volume": 0}
    assert report == {"rows": 30} | clean


def test_order_and_equal_duplicates_are_mended_and_counted() -> None:
    order = [0, 1, 3, 2, 4, 4, 5, 5, 5, 6, 7]
    frame, report = checked(frame_of(order))
    assert frame.equals(frame_of(list(range(8))))
    assert (report["rows"], report["reordered"], report["duplicates"]) == (8, 1, 3)


def test_gaps_and_zero_volume_are_counted_and_kept() -> None:
    frame = frame_of([0, 1, 2, 5, 6, 7, 9, 10]).with_columns(volume=pl.lit(0.0))
    kept, report = checked(frame)
    assert kept.equals(frame)
    assert (report["gaps"], report["missing_candles"], report["zero_volume"]) == (2, 3, 8)


def test_whole_numbers_as_prices_are_numbers() -> None:
    frame = frame_of([0, 1, 2]).with_columns(
        open=pl.lit(2), high=pl.lit(3), low=pl.lit(1), close=pl.lit(2), volume=pl.lit(5)
    )
    assert checked(frame)[0]["high"].to_list() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("pair", ["BTC/USDT:USDT", "BTC/USDT", "BTC"])
def test_ticker(pair: str) -> None:
    assert ticker_of(pair) == "BTC"


def test_four_hour_and_daily_candles_sit_on_their_grid() -> None:
    for hours, timeframe in ((4, "4h"), (24, "1d"), (168, "1w")):
        frame = frame_of([hours * i for i in range(10)])
        assert checked(frame, timeframe)[1]["gaps"] == 0


@pytest.mark.parametrize("ending", ["feather", "parquet", "json", "json.gz", "csv"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, ending: str) -> None:
    """Bytes changed, cut off or taken out: candles that pass every check, or one line that names the file."""
    write(frame_of(list(range(40))), tmp_path / f"x.{ending}")
    whole = (tmp_path / f"x.{ending}").read_bytes()
    rng = random.Random(8)  # noqa: S311
    refused = 0
    for number in range(80):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        elif number % 4 == 1:
            start = rng.randrange(len(damaged))
            del damaged[start : start + rng.randrange(1, 40)]
        else:
            for _ in range(rng.choice((1, 3, 20))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(damaged)
        try:
            frame, _ = check_candles(read_file(path), path, "1h")
        except InputError as error:
            refused += 1
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
        else:
            assert frame["date"].is_sorted()
            assert (frame["high"] >= frame["low"]).all()
    assert refused > 30
