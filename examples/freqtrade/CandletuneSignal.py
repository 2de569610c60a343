"""Trade candletune's active signals in freqtrade. Copy this file into user_data/strategies/.

    freqtrade trade --strategy CandletuneSignal --config config.json

`candletune shadow` must be running with its standard output appended to a file (see candletune-shadow.service), and
freqtrade's config.json names that file:

    "candletune": {"signals": "user_data/candletune/signals.jsonl", "min_confidence": 0.0}

For a backtest, name a run's `replay/ab_test_log.jsonl` instead: both forms are read. This is an example of the wiring,
not a recommendation: stoploss and leverage are yours to choose.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.exchange import timeframe_to_minutes
from freqtrade.strategy import IStrategy

logger = logging.getLogger(__name__)
EMPTY = {"decision_time": "datetime64[ns, UTC]", "ticker": str, "ct_action": str, "ct_confidence": float}
COLUMNS = list(EMPTY)


def read_signals(path: Path, *, role: str = "active") -> pd.DataFrame:
    """The answered signals of a file, oldest first; the first answer counts where a restart gave a second one.

    A line that cannot be read (cut off by a full disk, NULs after a power cut, no JSON object) is skipped and counted
    in the frame's `attrs["skipped"]`: one of them must not cost every signal after it.

    Args:
        path: the shadow loop's output, or a journal.
        role: whose side of a journal row: `active`, or `shadow` to look at the candidate in a backtest.
    """
    rows, skipped = [], 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # a line that is being written
            if not line.strip():
                continue
            try:
                row = parse_signal(line, role)
            except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
                skipped += 1
                continue
            if row is not None:
                rows.append(row)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["decision_time"] = pd.to_datetime(frame["decision_time"], utc=True).astype("datetime64[ns, UTC]")
    frame["ct_confidence"] = frame["ct_confidence"].astype(float)
    frame = frame.drop_duplicates(["decision_time", "ticker"]).sort_values("decision_time", ignore_index=True)
    frame.attrs["skipped"] = skipped
    return frame


def parse_signal(line: bytes, role: str) -> tuple[pd.Timestamp, str, str, float] | None:
    """One line's `COLUMNS`; None for an answer that nobody is to act on; an exception for what is no answer."""
    row = json.loads(line.decode("utf-8"))
    side = row.get(role, row)
    if side.get("status") != "ok" or row.get("late") or "timestamp" not in row:
        return None  # late: nobody could have acted on it
    if side["action"] not in ("BUY", "SELL", "HOLD") or not isinstance(row["ticker"], str):
        raise ValueError("no decision")
    chances = side.get("probabilities") or {}
    confidence = side.get("confidence", chances.get(side["action"]))
    time = pd.Timestamp(str(row["timestamp"]))  # a ValueError outside the years 1677 to 2262
    time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
    return time.as_unit("ns"), row["ticker"], side["action"], math.nan if confidence is None else float(confidence)


def blindness(signals: pd.DataFrame, *, ticker: str, closed: pd.Timestamp, minutes: int) -> str:
    """Why nothing can be acted on now, in a sentence; empty while signals come.

    Args:
        signals: of the file.
        ticker: the pair's.
        closed: the close of the newest candle; its signal may still be on its way, the one before it may not.
        minutes: of a candle.
    """
    mine = signals.loc[signals["ticker"] == ticker, "decision_time"]
    skipped = signals.attrs.get("skipped", 0)
    more = f" ({skipped} lines of the file cannot be read)" if skipped else ""
    if mine.empty:
        return f"candletune: no signal for {ticker} in the file{more}; no entries and no exits until there is one"
    if closed - mine.max() > pd.Timedelta(minutes=minutes):
        newest = f"{mine.max():%Y-%m-%d %H:%M}"
        return f"candletune: the newest signal for {ticker} is of {newest} UTC{more}; blind until there is a newer one"
    return ""


def join_signals(candles: pd.DataFrame, signals: pd.DataFrame, *, ticker: str, minutes: int) -> pd.DataFrame:
    """Give each candle the latest signal at or before its close, if that is less than one candle old.

    A candle's `date` is its open time and a signal's time the close it was decided at, so the signal lands on the
    candle that had just closed, and freqtrade acts on it at the next one's open.
    """
    step = pd.Timedelta(minutes=minutes)
    mine = signals.loc[signals["ticker"] == ticker, ["decision_time", "ct_action", "ct_confidence"]]
    joined = candles.drop(columns=["ct_action", "ct_confidence"], errors="ignore")
    joined = joined.assign(_close=candles["date"].astype("datetime64[ns, UTC]") + step)
    joined = pd.merge_asof(
        joined,
        mine,
        left_on="_close",
        right_on="decision_time",
        direction="backward",
        tolerance=step - pd.Timedelta(microseconds=1),
    )
    return joined.drop(columns=["_close", "decision_time"])


class CandletuneSignal(IStrategy):
    """BUY enters long and leaves short, SELL the other way round; HOLD and a missing signal do nothing."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = False
    startup_candle_count = 1
    # The signal arrives seconds after the candle closed: look again until it is there, not only once a candle.
    process_only_new_candles = False
    minimal_roi = {"0": 100.0}  # noqa: RUF012 - freqtrade's own form
    stoploss = -0.10
    use_exit_signal = True
    said_blind: dict[str, pd.Timestamp] = {}  # noqa: RUF012 - one strategy runs in a process

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Add `ct_action` and `ct_confidence`."""
        settings = self.config.get("candletune", {})
        path = Path(settings.get("signals", "user_data/candletune/signals.jsonl"))
        ticker, minutes = metadata["pair"].split("/")[0], timeframe_to_minutes(self.timeframe)
        live = self.dp is not None and self.dp.runmode.value in ("live", "dry_run")
        try:
            signals = read_signals(path, role=settings.get("role", "active"))
        except OSError as error:
            if not live:  # a backtest without signals would look like a strategy that never trades
                raise
            logger.error("candletune: %s", error)
            signals = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in EMPTY.items()})
        if live and not dataframe.empty:
            closed = dataframe["date"].max() + pd.Timedelta(minutes=minutes)
            self.say_blindness(blindness(signals, ticker=ticker, closed=closed, minutes=minutes), ticker, closed)
        return join_signals(dataframe, signals, ticker=ticker, minutes=minutes)

    def say_blindness(self, reason: str, ticker: str, closed: pd.Timestamp) -> None:
        """Once a candle and ticker, in the log and to whoever reads freqtrade's messages."""
        if reason and self.said_blind.get(ticker) != closed:
            self.said_blind[ticker] = closed
            logger.warning(reason)
            self.dp.send_msg(reason)

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Enter on BUY (long) and SELL (short, when `can_short` is set)."""
        sure = dataframe["ct_confidence"].fillna(0.0) >= self.config.get("candletune", {}).get("min_confidence", 0.0)
        dataframe.loc[sure & (dataframe["ct_action"] == "BUY"), ["enter_long", "enter_tag"]] = (1, "candletune")
        if self.can_short:
            dataframe.loc[sure & (dataframe["ct_action"] == "SELL"), ["enter_short", "enter_tag"]] = (1, "candletune")
        return dataframe

    def populate_exit_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Leave on the opposite signal, however sure it is."""
        dataframe.loc[dataframe["ct_action"] == "SELL", "exit_long"] = 1
        dataframe.loc[dataframe["ct_action"] == "BUY", "exit_short"] = 1
        return dataframe
