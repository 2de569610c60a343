"""The example strategy under the real freqtrade: signals land on the candle that closed, and never earlier.

pip install freqtrade && pytest tests/strategy    (a separate environment: freqtrade pins pandas)
"""

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("freqtrade", reason="needs freqtrade, which wants an environment of its own")
pd = pytest.importorskip("pandas")

EXAMPLE = Path(__file__).parents[2] / "examples" / "freqtrade" / "CandletuneSignal.py"
START = datetime(2025, 1, 1, tzinfo=UTC)
ACTIONS = ("HOLD", "BUY", "BUY", "SELL", "HOLD", "SELL")


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("CandletuneSignal", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["CandletuneSignal"] = module
    spec.loader.exec_module(module)
    return module


def candles(count: int) -> Any:
    times = [START + timedelta(hours=n) for n in range(count)]
    price = [100.0 + n for n in range(count)]
    frame = {"date": pd.to_datetime(times, utc=True), "open": price, "high": price, "low": price, "close": price}
    return pd.DataFrame(frame | {"volume": 1.0})


def line(hour: int, action: str, ticker: str = "BTC", **more: Any) -> str:
    """An answer of the shadow loop decided at START + hour."""
    moment = (START + timedelta(hours=hour)).isoformat()
    row = {"timestamp": moment, "ticker": ticker, "price": 1.0, "late": False, "action": action, "confidence": 0.6}
    return json.dumps(row | {"status": "ok"} | more) + "\n"


def strategy_of(tmp_path: Path, text: str, **settings: Any) -> Any:
    from freqtrade.resolvers import StrategyResolver

    path = tmp_path / "signals.jsonl"
    path.write_text(text)
    config = {
        "strategy": "CandletuneSignal",
        "strategy_path": str(EXAMPLE.parent),
        "user_data_dir": tmp_path,
        "stake_currency": "USDT",
        "stake_amount": 10,
        "dry_run": True,
        "trading_mode": "futures",
        "candletune": {"signals": str(path)} | settings,
    }
    return StrategyResolver.load_strategy(config)


def analyse(strategy: Any, frame: Any) -> Any:
    meta = {"pair": "BTC/USDT:USDT"}
    frame = strategy.advise_indicators(frame.copy(), meta)
    return strategy.advise_exit(strategy.advise_entry(frame, meta), meta)


def test_a_signal_lands_on_the_candle_that_just_closed(tmp_path: Path) -> None:
    """Decided at 01:00: the candle from 00:00 to 01:00 carries it, and freqtrade acts at the open of 01:00."""
    text = "".join(line(n + 1, action) for n, action in enumerate(ACTIONS)) + line(2, "SELL", "ETH")
    strategy = strategy_of(tmp_path, text)
    strategy.can_short = True
    frame = analyse(strategy, candles(6))
    assert frame["ct_action"].tolist() == list(ACTIONS)
    assert frame["enter_long"].fillna(0).tolist() == [0, 1, 1, 0, 0, 0]
    assert frame["enter_short"].fillna(0).tolist() == [0, 0, 0, 1, 0, 1]
    assert frame["exit_long"].fillna(0).tolist() == [0, 0, 0, 1, 0, 1]
    assert frame["exit_short"].fillna(0).tolist() == [0, 1, 1, 0, 0, 0]


def test_without_shorting_sell_only_leaves(tmp_path: Path) -> None:
    frame = analyse(strategy_of(tmp_path, line(1, "SELL")), candles(2))
    assert "enter_short" not in frame or frame["enter_short"].fillna(0).sum() == 0
    assert frame["exit_long"].fillna(0).tolist() == [1, 0]


def test_no_candle_knows_a_later_signal(tmp_path: Path) -> None:
    """Cut signals and candles anywhere: what came before the cut is unchanged (freqtrade's own lookahead test)."""
    lines = [line(n + 1, ACTIONS[n % 6]) for n in range(24)]
    whole = analyse(strategy_of(tmp_path, "".join(lines)), candles(24))
    for cut in range(1, 24):
        part = analyse(strategy_of(tmp_path, "".join(lines[:cut])), candles(cut))
        pd.testing.assert_frame_equal(part, whole.head(cut)[part.columns], check_dtype=False)


def test_old_late_failed_and_unfinished_signals_are_no_signals(tmp_path: Path) -> None:
    text = line(1, "BUY") + line(3, "BUY", late=True) + line(4, "BUY", status="error")
    frame = analyse(strategy_of(tmp_path, text + line(5, "SELL").rstrip("\n")), candles(6))
    assert frame["enter_long"].fillna(0).tolist() == [1, 0, 0, 0, 0, 0]
    assert frame["ct_action"].notna().tolist() == [True, False, False, False, False, False]


def test_the_first_answer_counts_and_confidence_can_be_asked_for(tmp_path: Path) -> None:
    text = line(1, "BUY") + line(1, "SELL") + line(2, "BUY", confidence=0.9)
    frame = analyse(strategy_of(tmp_path, text, min_confidence=0.8), candles(2))
    assert frame["ct_action"].tolist() == ["BUY", "BUY"]
    assert frame["enter_long"].fillna(0).tolist() == [0, 1]


def test_a_replay_journal_is_read_too(tmp_path: Path, example: Any) -> None:
    side = {"status": "ok", "action": "BUY", "probabilities": {"BUY": 0.7, "SELL": 0.1, "HOLD": 0.2}}
    other = {"status": "ok", "action": "SELL", "probabilities": {"BUY": 0.1, "SELL": 0.8, "HOLD": 0.1}}
    row = {"timestamp": "2025-01-01T01:00:00Z", "ticker": "BTC", "late": False, "active": side, "shadow": other}
    path = tmp_path / "ab_test_log.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert example.read_signals(path)[["ct_action", "ct_confidence"]].values.tolist() == [["BUY", 0.7]]
    assert example.read_signals(path, role="shadow")["ct_action"].tolist() == ["SELL"]
