"""Bring candles through ccxt into freqtrade's feather files, adding to what is there.

A file is only ever replaced by one that holds all of its candles and more, checked as a whole. A candle still forming
is left out, and one that the exchange now tells differently stops the download: mixed markets are worse than old ones.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from candletune.config import DataConfig
from candletune.errors import InputError, UsageError
from candletune.files import atomic_path, make_folder
from candletune.market.candles import COLUMNS, check_candles, find_candle_file, load_candles
from candletune.market.retry import Busy, Wait, ask

PAGE = 1000
SAVE_EVERY = 20
"""Pages between saves: an interrupted download goes on from the last save."""
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Added:
    """One pair's download: the file, candles added and in all, and the first and last open time."""

    path: Path
    added: int
    total: int
    first: datetime
    last: datetime


def open_exchange(name: str, url: str | None = None) -> Any:
    """A ccxt client by its name.

    Args:
        name: such as `binanceusdm` or `kraken`.
        url: another scheme and host for the API, for a mirror.

    Raises:
        UsageError: ccxt is not installed, knows no such exchange, or the exchange has no candles.
    """
    try:
        import ccxt
    except ImportError:
        raise UsageError("fetch candles: needs ccxt; install it with pip install ccxt") from None
    if name not in ccxt.exchanges:
        near = get_close_matches(name, ccxt.exchanges, n=1)
        hint = f"did you mean {near[0]}?" if near else "see ccxt's list of exchanges"
        raise UsageError(f"--exchange {name}: unknown to ccxt; {hint}")
    client = getattr(ccxt, name)({"enableRateLimit": True, "timeout": 30_000})
    if not client.has.get("fetchOHLCV"):
        raise UsageError(f"--exchange {name}: gives no candles; choose another exchange")
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--url {url}: expected an http or https address")
        client.urls["api"] = _moved(client.urls["api"], url)
    return client


def _moved(addresses: Any, url: str) -> Any:
    """ccxt's table of addresses with another scheme and host."""
    if isinstance(addresses, dict):
        return {key: _moved(value, url) for key, value in addresses.items()}
    return url.rstrip("/") + urlsplit(addresses).path


def fetch_pair(
    client: Any,
    data: DataConfig,
    pair: str,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
    page_done: Callable[[datetime], None] = lambda _: None,
    wait: Wait = time.sleep,
) -> Added:
    """Download one pair's closed candles from `since` on and add them to its file.

    Args:
        client: from `open_exchange`.
        data: names folder and timeframe.
        pair: freqtrade pair name.
        since: first open time wanted; none: where the file begins, or `FIRST_DAY`.
        now: the present; none: the clock's.
        page_done: told the open time reached, after each page.
        wait: sleeps between attempts.

    Raises:
        InputError: the exchange does not have the pair or timeframe, does not answer, or sends broken candles or ones
            that contradict the file; the file is left as it was.
    """
    _check_market(client, data, pair, wait)
    step = data.candle
    end = (now or datetime.now(UTC)) - step
    target, known = _known(data, pair)
    store = _Store(target, data.timeframe, known, client.id)
    before = 0 if known is None else len(known)
    asked = _Pages(client, pair, data.timeframe, step, page_done, wait)
    start = since or FIRST_DAY
    if known is not None:
        first, last = known["date"][0], known["date"][-1]
        if since is not None and since < first:
            # Saved only when whole: half of it would leave a hole that nobody would notice later.
            store.add([row for page in asked.between(since, first) for row in page])
        start = last
    pending: list[list[Any]] = []
    for number, page in enumerate(asked.between(start, end), start=1):
        if number == 1 and known is not None and page[0][0] != _milliseconds(start):
            raise InputError(
                f"{target}: ends at {start:%Y-%m-%d %H:%M}, but {client.id} begins at "
                f"{datetime.fromtimestamp(page[0][0] / 1000, UTC):%Y-%m-%d %H:%M}; the hole would stay, so use an "
                "exchange with a longer history"
            )
        pending += page
        if number % SAVE_EVERY == 0:
            store.add(pending)
            pending = []
    store.add(pending)
    frame = store.frame
    if frame is None:
        raise InputError(f"{client.id}: no candles of {pair} {data.timeframe} since {start:%Y-%m-%d}; check --since")
    return Added(target, len(frame) - before, len(frame), frame["date"][0], frame["date"][-1])


def _check_market(client: Any, data: DataConfig, pair: str, wait: Wait) -> None:
    markets = ask(lambda: _call(client.load_markets), client.id, wait=wait)
    if pair not in markets:
        near = get_close_matches(pair, list(markets), n=1)
        hint = f"did you mean {near[0]}?" if near else "change data.pairs or --exchange"
        raise InputError(f"{client.id}: has no {pair}; {hint}")
    if client.timeframes and data.timeframe not in client.timeframes:
        known = ", ".join(client.timeframes)
        raise InputError(f"{client.id}: has no {data.timeframe} candles; set data.timeframe to one of {known}")


def _known(data: DataConfig, pair: str) -> tuple[Path, pl.DataFrame | None]:
    """Where the pair's feather file goes, and the candles on disk in whatever format."""
    stem = pair.replace("/", "_").replace(":", "_") + f"-{data.timeframe}"
    target = data.folder / "futures" / f"{stem}-futures.feather" if ":" in pair else data.folder / f"{stem}.feather"
    make_folder(data.folder)
    try:
        candle_file = find_candle_file(data.folder, pair, data.timeframe)
    except InputError:
        return target, None
    name = candle_file.name.partition(".")[0]
    return candle_file.with_name(f"{name}.feather"), load_candles(data.folder, pair, data.timeframe).frame


class _Pages:
    """Pages of candles from an exchange, asked for one after the other."""

    def __init__(
        self, client: Any, pair: str, timeframe: str, step: timedelta, done: Callable[[datetime], None], wait: Wait
    ) -> None:
        self._client, self._pair, self._timeframe = client, pair, timeframe
        self._step, self._done, self._wait = step, done, wait

    def between(self, start: datetime, last: datetime) -> Iterator[list[list[Any]]]:
        """Pages of rows with start <= open time <= last."""
        since, until, step = _milliseconds(start), _milliseconds(last), self._step // timedelta(milliseconds=1)
        while since <= until:
            page = ask(lambda since=since: self._page(since), self._client.id, wait=self._wait)  # type: ignore[misc]
            rows = [row for row in page if since <= row[0] <= until]
            if rows:
                yield rows
                since = rows[-1][0] + step
            elif page and page[-1][0] > until:
                return
            else:
                # Nothing here: before the listing, a halt, or the end. Some exchanges answer by window only.
                since += PAGE * step
            self._done(datetime.fromtimestamp(since / 1000, UTC))

    def _page(self, since: int) -> list[list[Any]]:
        page = _call(lambda: self._client.fetch_ohlcv(self._pair, self._timeframe, since=since, limit=PAGE))
        if not isinstance(page, list) or any(len(row) < len(COLUMNS) or row[0] is None for row in page):
            raise Busy("rows that are no candles")
        if any(later[0] <= earlier[0] for earlier, later in pairwise(page)):
            raise Busy("candles out of order")
        return page


class _Store:
    """A pair's file: what is on disk, and adding to it."""

    def __init__(self, path: Path, timeframe: str, frame: pl.DataFrame | None, exchange: str) -> None:
        self.path, self.frame = path, frame
        self._timeframe, self._exchange = timeframe, exchange

    def add(self, rows: list[list[Any]]) -> None:
        """Check, merge, and replace the file by the whole."""
        if not rows:
            return
        schema = {"date": pl.Int64} | {name: pl.Float64 for name in COLUMNS[1:]}
        records = [row[: len(COLUMNS)] for row in rows]
        raw = pl.DataFrame(records, schema=schema, orient="row", strict=False)
        source = Path(f"{self._exchange} {self.path.stem}")
        new, _ = check_candles(raw, source, self._timeframe)
        if self.frame is not None:
            self._refuse_contradictions(new)
            new = new.join(self.frame, on="date", how="anti")
            if new.is_empty():
                return
            new = pl.concat([self.frame, new]).sort("date")
        whole, _ = check_candles(new, self.path, self._timeframe)
        with atomic_path(self.path) as temporary:
            whole.with_columns(pl.col("date").cast(pl.Datetime("ms", "UTC"))).write_ipc(temporary, compression="lz4")
        self.frame = whole

    def _refuse_contradictions(self, new: pl.DataFrame) -> None:
        """Prices of one time must be the same; volumes are corrected by exchanges now and then."""
        assert self.frame is not None  # noqa: S101
        overlap = self.frame.join(new, on="date", how="inner", suffix="_new")
        differing = overlap.filter((pl.col("close_new") / pl.col("close") - 1).abs() > _TOLERANCE)
        if not differing.is_empty():
            row = differing.row(0, named=True)
            raise InputError(
                f"{self.path}: closes at {row['close']} for {row['date']}, {self._exchange} says {row['close_new']}; "
                "another market? Use another data.folder, or move the file away"
            )


def _call(request: Callable[[], Any]) -> Any:
    """One ccxt request; network trouble is `Busy`, anything else an `InputError`."""
    import ccxt

    try:
        return request()
    except ccxt.NetworkError as error:
        raise Busy(f"{type(error).__name__}: {error}") from None
    except ccxt.BaseError as error:
        raise InputError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}; check --exchange") from None


def _milliseconds(time_: datetime) -> int:
    return (time_ - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
