"""Read freqtrade candle files: find, check, mend what can be mended, refuse the rest by name."""

import gzip
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from candletune.config import timeframe_minutes
from candletune.errors import InputError

COLUMNS = ("date", "open", "high", "low", "close", "volume")
FORMATS = ("feather", "parquet", "json", "json.gz", "csv")
_MAGIC = {".feather": b"ARROW1", ".parquet": b"PAR1"}
_PRICES = ("open", "high", "low", "close")
_POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises on broken files; a truncated one may make its reader panic."""
_MILLISECONDS = (1_000_000_000_000, 10_000_000_000_000)
"""Integer dates are epoch milliseconds, as freqtrade's json has them: 2001 to 2286."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candles:
    """One pair's candles.

    Attributes:
        frame: date (open time, Datetime[us, UTC]), open, high, low, close, volume (Float64); ascending, unique.
        report: what was checked and mended, as counts.
        path: the file it came from.
        ticker: the pair's base currency, as the prompt shows it.
        timeframe: freqtrade timeframe.
    """

    frame: pl.DataFrame
    report: dict[str, int]
    path: Path
    ticker: str
    timeframe: str


def ticker_of(pair: str) -> str:
    """`BTC/USDT:USDT` -> `BTC`."""
    return pair.partition("/")[0]


def decision_time(at: datetime, timeframe: str) -> datetime:
    """When the last candle that had closed at `at` closed: `at` floored to the candle grid.

    The grid begins at midnight UTC on 1970-01-01; weeks begin on Monday, as exchanges have them.

    Args:
        at: any moment, with a time zone.
        timeframe: freqtrade timeframe.

    Raises:
        ValueError: `at` has no time zone, or the timeframe is none.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    anchor = _FIRST_MONDAY if timeframe.endswith("w") else _EPOCH
    return at.astimezone(UTC) - (at - anchor) % timedelta(minutes=timeframe_minutes(timeframe))


def find_candle_file(folder: Path, pair: str, timeframe: str) -> Path:
    """The pair's file in freqtrade's naming, in `folder` or its `futures/` subfolder; futures before spot.

    Raises:
        InputError: no such folder, or no file of any known format.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set data.folder to freqtrade's data folder")
    stem = pair.replace("/", "_").replace(":", "_")
    names = [f"{stem}-{timeframe}-futures", f"{stem}-{timeframe}"]
    for place in (folder, folder / "futures"):
        for name in names:
            for ending in FORMATS:
                path = place / f"{name}.{ending}"
                if path.is_file():
                    return path
    raise InputError(
        f"{folder}: no candles of {pair} {timeframe} (looked for {names[0]}.feather and the like, here and in "
        "futures/); download them with freqtrade or `candletune fetch candles`, or change data.pairs"
    )


def has_candle_file(folder: Path, pair: str, timeframe: str) -> bool:
    """Whether `find_candle_file` would find one."""
    try:
        find_candle_file(folder, pair, timeframe)
    except InputError:
        return False
    return True


def load_candles(folder: Path, pair: str, timeframe: str) -> Candles:
    """Find, read and check one pair's candles.

    Raises:
        InputError: the file is missing, unreadable, or holds what can't be mended.
    """
    path = find_candle_file(folder, pair, timeframe)
    frame, report = check_candles(read_file(path), path, timeframe)
    return Candles(frame, report, path, ticker_of(pair), timeframe)


def read_file(path: Path) -> pl.DataFrame:
    """Read one file in freqtrade's feather, parquet, json, json.gz or csv form, unchecked."""
    try:
        if path.name.endswith(".feather"):
            _check_ends(path, _MAGIC[".feather"])
            return pl.read_ipc(path)
        if path.name.endswith(".parquet"):
            _check_ends(path, _MAGIC[".parquet"])
            return pl.read_parquet(path)
        if path.name.endswith(".csv"):
            return pl.read_csv(path, try_parse_dates=True)
        return _read_json(path)
    except (OSError, EOFError, zlib.error, ValueError, *_POLARS) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: not a readable {path.suffix.lstrip('.')} candle file ({reason}); download it again"
        ) from None


def open_times(path: Path, timeframe: str) -> pl.Series:
    """A candle file's open times alone (Datetime[us, UTC], ascending), without the prices where the format allows it.

    Raises:
        InputError: the file is unreadable, or holds what can't be mended.
    """
    if path.suffix in _MAGIC:
        with suppress(OSError, ValueError, *_POLARS):
            _check_ends(path, _MAGIC[path.suffix])
            scanned = pl.scan_ipc(path) if path.suffix == ".feather" else pl.scan_parquet(path)
            times = scanned.select("date").collect().to_series()
            kind = times.dtype
            if isinstance(kind, pl.Datetime) and kind.time_zone and len(times) and not times.null_count():
                times = times.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC")).unique().sort()
                if not _outside(times).any():
                    return times
    # Another format, or something is wrong with it: the whole check reads it, or says what is wrong.
    frame, _ = check_candles(read_file(path), path, timeframe)
    return frame["date"]


def _check_ends(path: Path, magic: bytes) -> None:
    """Both formats begin and end with their mark; without the last one a reader may panic, loudly."""
    with path.open("rb") as stream:
        first = stream.read(len(magic))
        stream.seek(max(0, path.stat().st_size - len(magic)))
        if first != magic or stream.read() != magic:
            raise ValueError("empty, cut off or of another format")


def _read_json(path: Path) -> pl.DataFrame:
    raw = path.read_bytes()
    rows = json.loads(gzip.decompress(raw) if path.name.endswith(".gz") else raw)
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= len(COLUMNS) for row in rows):
        raise ValueError("expected freqtrade's list of [milliseconds, open, high, low, close, volume] rows")
    schema = {"date": pl.Int64} | {name: pl.Float64 for name in COLUMNS[1:]}
    return pl.DataFrame([row[: len(COLUMNS)] for row in rows], schema=schema, orient="row", strict=False)


def check_candles(frame: pl.DataFrame, path: Path, timeframe: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Check and mend a raw frame.

    Mended and counted: row order, equal duplicates. Counted: gaps, zero-volume rows. Refused: missing columns, naive
    times, empty files, conflicting duplicates, missing or non-positive prices, high below low, off-grid times.

    Raises:
        InputError: names the file, the first row concerned, and the remedy.
    """
    frame = _typed(frame, path)
    unique, unsorted, doubled = _ordered(frame)
    _refuse(unique, unique["date"].is_null(), path, "a missing time", "download the candles again")
    _refuse(unique, unique["date"].is_duplicated(), path, "two different candles for one time", "keep one of them")
    _refuse_bad_prices(unique, path)
    step = timeframe_minutes(timeframe) * 60_000_000
    stamps = unique["date"].cast(pl.Int64)
    steps = stamps.diff().drop_nulls()
    usual = int(steps.mode().min()) if len(steps) else step  # type: ignore[arg-type]
    if usual != step:
        minutes = usual / 60_000_000
        raise InputError(f"{path}: candles are {minutes:g} minutes apart, expected {timeframe}; change data.timeframe")
    off_grid = stamps % min(step, 86_400_000_000) != 0
    _refuse(unique, off_grid, path, f"a time off the {timeframe} grid", "download the candles again")
    report = {
        "rows": len(unique),
        "reordered": unsorted,
        "duplicates": doubled,
        "gaps": int((steps > step).sum()),
        "missing_candles": int(((steps // step) - 1).sum()),
        "zero_volume": int((unique["volume"] == 0).sum()),
    }
    return unique, report


def _ordered(frame: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """The rows by time without equal duplicates, and how many steps went back in time and how many rows went."""
    times = frame["date"].cast(pl.Int64)
    if not times.null_count() and bool((times.diff().drop_nulls() > 0).all()):
        return frame, 0, 0
    unique = frame.sort("date", maintain_order=True).unique(maintain_order=True)
    return unique, int((times.diff() < 0).sum()), len(frame) - len(unique)


def _typed(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)} as freqtrade writes them"
        )
    if frame.is_empty():
        raise InputError(f"{path}: no rows; download the candles again")
    frame = _dated(frame, path)
    kind = frame.schema["date"]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise InputError(f"{path}: column date is {kind}, expected times with a time zone (UTC); convert it")
    try:
        typed = frame.select(
            pl.col("date").dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC")),
            *(pl.col(name).cast(pl.Float64) for name in COLUMNS[1:]),
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: a value is not a number ({' '.join(str(error).split())[:100]}); mend it") from None
    outside = _outside(typed["date"])
    if outside.any():
        raise InputError(f"{path}: row {outside.arg_max()} has a time before 2001 or after 2286; download it again")
    return typed


def _outside(times: pl.Series) -> pl.Series:
    """Which times (Datetime[us]) no candle can have."""
    low, high = (bound * 1000 for bound in _MILLISECONDS)
    return (~times.cast(pl.Int64).is_between(low, high)).fill_null(False)


def _dated(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Integer dates as UTC times."""
    if not frame.schema["date"].is_integer():
        return frame
    low, high = _MILLISECONDS
    outside = frame.filter(~pl.col("date").is_between(low, high))
    if not outside.is_empty():
        raise InputError(f"{path}: date {outside['date'][0]} is not a time in milliseconds since 1970; convert it")
    return frame.with_columns(pl.col("date").cast(pl.Datetime("ms", "UTC")))


def _refuse_bad_prices(frame: pl.DataFrame, path: Path) -> None:
    prices = frame.select(_PRICES)
    unusable = prices.select(pl.any_horizontal(pl.all().is_null() | ~pl.all().is_finite())).to_series()
    _refuse(frame, unusable, path, "a missing price", "download the candles again")
    low = frame.select(pl.min_horizontal(_PRICES) <= 0).to_series()
    _refuse(frame, low, path, "a price that is not positive", "download the candles again")
    bent = frame.select(
        (pl.col("high") < pl.max_horizontal("open", "close", "low"))
        | (pl.col("low") > pl.min_horizontal("open", "close", "high"))
    ).to_series()
    _refuse(frame, bent, path, "high or low inside open and close", "download the candles again")
    _refuse(frame, ~(frame["volume"].fill_null(-1) >= 0), path, "a missing or negative volume", "mend it")


def _refuse(frame: pl.DataFrame, mask: pl.Series, path: Path, what: str, remedy: str) -> None:
    count = int(mask.sum())
    if count:
        first = frame.filter(mask)["date"][0]
        raise InputError(f"{path}: {what} at {first} ({count} such rows); {remedy}")
