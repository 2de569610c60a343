"""The candles of one configured pair, on every timeframe decided on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.errors import InputError
from candletune.market.candles import Candles, has_candle_file, load_candles, ticker_of
from candletune.market.resample import longer_candles


@dataclass(frozen=True, slots=True)
class PairCandles:
    """One pair's candles of every timeframe decided on.

    Attributes:
        shortest: those of `data.timeframe`.
        files: what the longer timeframes' own files hold, where there are such files.
    """

    shortest: Candles
    files: Mapping[str, Candles]

    def of(self, timeframe: str) -> Candles:
        """Candles of one timeframe: its own file's, and made from the shortest where that has none."""
        if timeframe == self.shortest.timeframe:
            return self.shortest
        return longer_candles(self.shortest, timeframe, self.files.get(timeframe))

    def until(self, time: datetime) -> "PairCandles":
        """What had closed by `time`, in every file."""
        return PairCandles(_cut(self.shortest, time), {name: _cut(own, time) for name, own in self.files.items()})


def _cut(candles: Candles, time: datetime) -> Candles:
    closed = pl.col("date") + pl.duration(minutes=timeframe_minutes(candles.timeframe)) <= time
    return replace(candles, frame=candles.frame.filter(closed))


def load_pair(config: Config, pair: str) -> Candles:
    """One configured pair's candles of `data.timeframe`.

    Raises:
        InputError: the file is missing or broken.
    """
    return load_candles(config.data.folder, pair, config.data.timeframe)


def load_timeframes(config: Config, pair: str) -> PairCandles:
    """One configured pair's candles of every timeframe decided on.

    Raises:
        InputError: a file is broken, or the one of `data.timeframe` missing.
    """
    folder = config.data.folder
    longer = [name for name in config.timeframes[1:] if has_candle_file(folder, pair, name)]
    return PairCandles(load_pair(config, pair), {name: load_candles(folder, pair, name) for name in longer})


def check_tickers(config: Config) -> None:
    """Two pairs may not share a ticker, since a prompt and a journal row name only that.

    Raises:
        InputError: they do.
    """
    tickers = [ticker_of(pair) for pair in config.data.pairs]
    if doubled := {ticker for ticker in tickers if tickers.count(ticker) > 1}:
        raise InputError(f"data.pairs: {', '.join(sorted(doubled))} appears in two pairs; keep one of them")
