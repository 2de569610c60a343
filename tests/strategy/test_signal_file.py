"""The strategy's reader on files as full disks and power cuts leave them; a stand-in takes the place of freqtrade."""

import importlib.util
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from candletune.commands.live import begin_on_a_fresh_line, say_json
from candletune.files import ends_mid_line

pd = pytest.importorskip("pandas")
EXAMPLE = Path(__file__).parents[2] / "examples" / "freqtrade" / "CandletuneSignal.py"
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's module over stand-ins for the two names that it takes from freqtrade."""
    exchange, strategy = ModuleType("freqtrade.exchange"), ModuleType("freqtrade.strategy")
    exchange.timeframe_to_minutes = lambda _: 60  # type: ignore[attr-defined]
    strategy.IStrategy = object  # type: ignore[attr-defined]
    for name, module in (
        ("freqtrade", ModuleType("freqtrade")),
        (exchange.__name__, exchange),
        (strategy.__name__, strategy),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("CandletuneSignalAlone", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(hour: int, action: str = "BUY", **more: Any) -> bytes:
    moment = (START + timedelta(hours=hour)).isoformat()
    row = {"timestamp": moment, "ticker": "BTC", "late": False, "action": action, "confidence": 0.6, "status": "ok"}
    return json.dumps(row | more).encode() + b"\n"


BROKEN: dict[str, bytes] = {
    "half a line": line(2)[:40] + b"\n",
    "half a line and a whole one behind it": line(2)[:40] + line(3),
    "NULs": b"\0" * 512 + b"\n",
    "no UTF-8": line(2).replace(b"BTC", b"B\xffC"),
    "a list": b"[1, 2]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "brackets": b"[" * 60_000 + b"\n",
    "a time that is none": line(2, timestamp="soon"),
    "a year before all others": line(2, timestamp="0001-01-01T00:00:00+14:00"),
    "a time that is a list": line(2, timestamp=[1]),
    "an action that is none": line(2, action="LONG"),
    "a ticker that is a number": line(2, ticker=5),
    "a confidence of 400 digits": line(2).replace(b"0.6", b"1" + b"0" * 400),
    "a confidence in words": line(2, confidence="high"),
    "a side that is a list": b'{"active": [], "timestamp": "2025-01-01T02:00:00Z"}\n',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_costs_itself_alone(name: str, tmp_path: Path, example: Any) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(line(1) + BROKEN[name] + b"\n" + line(4, "SELL") + line(5)[:30])
    signals = example.read_signals(path)
    assert signals["ct_action"].tolist() == ["BUY", "SELL"]
    assert signals.attrs["skipped"] == 1


def candles(count: int) -> Any:
    return pd.DataFrame({"date": pd.to_datetime([START + timedelta(hours=n) for n in range(count)], utc=True)})


def strategy_of(example: Any, path: Path, mode: str) -> tuple[Any, list[str]]:
    said: list[str] = []
    strategy = example.CandletuneSignal()
    strategy.said_blind = {}
    strategy.config = {"candletune": {"signals": str(path)}}
    strategy.dp = SimpleNamespace(runmode=SimpleNamespace(value=mode), send_msg=said.append)
    return strategy, said


def test_the_strategy_says_that_it_is_blind(tmp_path: Path, example: Any) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(line(4) + b"\0\n" + line(5) + line(9, ticker="ETH"))
    strategy, said = strategy_of(example, path, "dry_run")
    meta = {"pair": "BTC/USDT:USDT"}
    for newest in (5, 6):  # the signal of the newest candle may still be on its way
        strategy.populate_indicators(candles(newest), meta)
    assert said == []
    for _ in range(3):
        strategy.populate_indicators(candles(7), meta)
    assert len(said) == 1
    assert "the newest signal for BTC is of 2025-01-01 05:00 UTC (1 lines of the file cannot be read); blind" in said[0]
    strategy.populate_indicators(candles(8), meta)
    assert len(said) == 2
    path.write_bytes(path.read_bytes() + line(8))
    frame = strategy.populate_indicators(candles(8), meta)
    assert len(said) == 2
    assert frame["ct_action"].tolist()[-1] == "BUY"


def test_a_missing_file_is_blindness_when_live_and_an_error_in_a_backtest(tmp_path: Path, example: Any) -> None:
    strategy, said = strategy_of(example, tmp_path / "none.jsonl", "live")
    frame = strategy.populate_indicators(candles(3), {"pair": "BTC/USDT:USDT"})
    assert frame["ct_action"].isna().all()
    assert "no signal for BTC" in said[0]
    strategy, said = strategy_of(example, tmp_path / "none.jsonl", "backtest")
    with pytest.raises(FileNotFoundError):
        strategy.populate_indicators(candles(3), {"pair": "BTC/USDT:USDT"})
    assert said == []


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/fd")
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b'{"a": 1}\n', b'{"a": 1}\n'), (b'{"a', b'{"a\n')])
def test_writers_begin_on_a_fresh_line(
    before: bytes, after: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_bytes(before)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    assert ends_mid_line(handle) == (before != after)
    with os.fdopen(handle, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        begin_on_a_fresh_line()
        say_json({"b": 2})
        monkeypatch.undo()
    assert path.read_bytes() == after + b'{"b": 2}\n'
