"""Trade candletune's active signals in freqtrade. Copy this file into user_data/strategies/.

    freqtrade trade --strategy CandletuneSignal --config config.json

`candletune shadow` must be running with its standard output appended to a file (see candletune-shadow.service), and
freqtrade's config.json names that file:

    "candletune": {"signals": "user_data/candletune/signals.jsonl", "min_confidence": 0.0}

For a backtest, name a run's `replay/ab_test_log.jsonl` instead: both forms are read. This is an example of the wiring,
not a recommendation: stoploss and leverage are yours to choose.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.exchange import timeframe_to_minutes
from freqtrade.strategy import IStrategy

COLUMNS = ["decision_time", "ticker", "ct_action", "ct_confidence"]


def read_signals(path: Path, *, role: str = "active") -> pd.DataFrame:
    """The answered signals of a file, oldest first; the first answer counts where a restart gave a second one.

    Args:
        path: the shadow loop's output, or a journal.
        role: whose side of a journal row: `active`, or `shadow` to look at the candidate in a backtest.
    """
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # a line that is being written
            row = json.loads(line)
            side = row.get(role, row)
            if side.get("status") != "ok" or row.get("late") or "timestamp" not in row:
                continue  # late: nobody could have acted on it
            chances = side.get("probabilities") or {}
            confidence = side.get("confidence", chances.get(side["action"]))
            rows.append((row["timestamp"], row["ticker"], side["action"], confidence))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["decision_time"] = pd.to_datetime(frame["decision_time"], utc=True, format="ISO8601").astype(
        "datetime64[ns, UTC]"
    )
    frame["ct_confidence"] = frame["ct_confidence"].astype(float)
    return frame.drop_duplicates(["decision_time", "ticker"]).sort_values("decision_time", ignore_index=True)


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

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Add `ct_action` and `ct_confidence`."""
        settings = self.config.get("candletune", {})
        path = Path(settings.get("signals", "user_data/candletune/signals.jsonl"))
        signals = read_signals(path, role=settings.get("role", "active"))
        ticker = metadata["pair"].split("/")[0]
        return join_signals(dataframe, signals, ticker=ticker, minutes=timeframe_to_minutes(self.timeframe))

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
