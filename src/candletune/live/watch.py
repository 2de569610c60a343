"""What is due when: follows the candle files, or plays a simulated market, and hands decisions to the shadow loop."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from candletune.config import Config
from candletune.dataset import decision_rows
from candletune.errors import InputError
from candletune.journal import Journal
from candletune.live.shadow import Due, ShadowLoop
from candletune.market.candles import find_candle_file, load_candles, ticker_of
from candletune.prompts.context import context_of

OVERLAP = timedelta(days=60)
"""History a first start reads before its first decision: enough for every indicator's warm-up."""


def due_decisions(config: Config, journal: Journal, now: datetime) -> list[Due]:
    """Decisions of closed candles that are not in the journal yet, in time order.

    A ticker without a row begins at its newest candle. After a pause everything missed is due, marked late when its
    next candle has closed already. A candle that was still open when its file was written is not due: its last prices
    are missing.
    """
    step = config.candle
    tickers = [ticker_of(pair) for pair in config.data.pairs]
    last = {ticker: journal.last(ticker) for ticker in tickers}
    known = [time for time in last.values() if time is not None]
    start = min(known) + step if len(known) == len(tickers) else now - OVERLAP
    rows = decision_rows(config, start=start, end=now + timedelta(seconds=1))
    due = []
    for ticker, (written, _) in zip(tickers, _files(config), strict=True):
        mine = rows.filter((pl.col("asset") == ticker) & (pl.col("decision_time") <= written))
        seen = last[ticker]
        mine = mine.tail(1) if seen is None else mine.filter(pl.col("decision_time") > seen)
        due += [_due(row, now, step) for row in mine.iter_rows(named=True)]
    return sorted(due, key=lambda item: (item.timestamp, item.ticker))


def _files(config: Config) -> list[tuple[datetime, int]]:
    """When each pair's candle file was written, and its size."""
    files = []
    for pair in config.data.pairs:
        stat = find_candle_file(config.data.folder, pair, config.data.timeframe).stat()
        files.append((datetime.fromtimestamp(stat.st_mtime, UTC), stat.st_size))
    return files


def newest_candle(config: Config) -> datetime:
    """The opening time of the newest candle of any pair.

    Raises:
        InputError: a candle file is missing or broken.
    """
    frames = [load_candles(config.data.folder, pair, config.data.timeframe).frame for pair in config.data.pairs]
    newest: datetime = max(frame["date"].to_list()[-1] for frame in frames)
    return newest


def _due(row: Mapping[str, Any], now: datetime, step: timedelta) -> Due:
    late = now - row["decision_time"] >= step
    return Due(row["decision_time"], row["asset"], float(row["close"]), context_of(row), late)


def watch(
    config: Config,
    loop: ShadowLoop,
    *,
    once: bool = False,
    fetch: Callable[[], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    pause: Callable[[float], object] = time.sleep,
) -> int:
    """Follow the candle files until `stop` says so (or once); returns rows written.

    Args:
        config: names files and poll interval.
        loop: asks and logs.
        once: one look, no waiting.
        fetch: called before each look, to fetch new candles from an exchange.
        stop: asked between looks.
        clock: the time now, with a zone.
        pause: waits some seconds.
    """
    step = config.candle
    written, stale = 0, False
    seen: list[tuple[datetime, int]] | None = None
    newest = clock()
    while True:
        due: list[Due] = []
        try:
            if fetch is not None:
                fetch()
            now, files = clock(), _files(config)
            if files != seen:  # reading all candles again is worth it only when one may have been added
                due = due_decisions(config, loop.journal, now)
                newest = newest_candle(config)
                seen = files if max(time for time, _ in files) <= now else None
            if not stale and now - newest > 3 * step:
                stale = True
                when = f"{newest:%Y-%m-%d %H:%M} UTC"
                loop.reporter.warn(f"{config.data.folder}: the newest candle opened {when}; keep the folder current")
        except (InputError, OSError) as error:  # a file is being rewritten, or the exchange is away: look again
            if once:
                raise
            seen = None
            loop.faults.add("candles")
            loop.reporter.warn(str(error))
        deadline = max((item.timestamp for item in due), default=clock()) + step
        written += loop.cycle(due, behind=lambda limit=deadline: stop() or clock() >= limit)  # type: ignore[misc]
        if once or stop():
            return written
        pause(config.live.poll_seconds)


def play_simulated(config: Config, loop: ShadowLoop, *, candles: int, stop: Callable[[], bool] = lambda: False) -> int:
    """Answer the last candles of a simulated market in turn, as if each had just closed; returns rows written.

    A simulated market ended long ago, so nothing in it ever becomes due by the clock.

    Args:
        config: `data.folder` holds the simulated candles.
        loop: asks and logs.
        candles: how many of them.
        stop: asked between candles, and while the candidate works.
    """
    last = newest_candle(config) + config.candle
    rows = decision_rows(config, start=last - (candles - 1) * config.candle, end=last + timedelta(seconds=1))
    written = 0
    for (_,), closed in rows.group_by("decision_time", maintain_order=True):
        if stop():
            break
        due = [_due(row, row["decision_time"], config.candle) for row in closed.iter_rows(named=True)]
        written += loop.cycle(due, behind=stop)
    return written
