"""freqtrade's own pages about a run's calls, beside which docs/report.md holds the report.

    python bench/freqtrade_pages.py JOURNAL CANDLES OUT    in an environment with freqtrade and plotly

JOURNAL is a replay's `ab_test_log.jsonl`, CANDLES a folder with freqtrade's futures candles. Below OUT it makes a user
folder with examples/freqtrade/CandletuneSignal.py and a strategy that acts as the report's Money section does (long on
BUY, short on SELL, out on HOLD, no stop), and runs `backtesting`, `plot-profit` and `plot-dataframe` over the journal's
time. No exchange is asked: the two markets are written below, funding is zero and the mark price is the candle's, as
freqtrade wants both files. Fees are those of `evaluate.fee`.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "freqtrade" / "CandletuneSignal.py"
FEE = 0.0005
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
STRATEGY = '''"""As the report's Money section: a HOLD closes what is open."""

from CandletuneSignal import CandletuneSignal


class AsReported(CandletuneSignal):
    can_short = True
    stoploss = -0.99
    process_only_new_candles = True

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["ct_action"].isin(["SELL", "HOLD"]), "exit_long"] = 1
        dataframe.loc[dataframe["ct_action"].isin(["BUY", "HOLD"]), "exit_short"] = 1
        return dataframe
'''


def market(pair: str) -> dict[str, Any]:
    """A pair as ccxt lists it."""
    base = pair.split("/")[0]
    return {
        "id": f"{base}USDT",
        "symbol": pair,
        "base": base,
        "quote": "USDT",
        "settle": "USDT",
        "baseId": base,
        "quoteId": "USDT",
        "settleId": "USDT",
        "type": "swap",
        "spot": False,
        "margin": False,
        "swap": True,
        "future": False,
        "option": False,
        "contract": True,
        "linear": True,
        "inverse": False,
        "active": True,
        "contractSize": 1.0,
        "maker": FEE,
        "taker": FEE,
        "precision": {"amount": 0.00001, "price": 0.01},
        "limits": {"amount": {"min": 0.00001}, "cost": {"min": 5.0}, "price": {}, "leverage": {}},
        "info": {},
    }


def period(journal: Path) -> tuple[datetime, datetime]:
    """First and last decision of a journal."""
    rows = journal.read_bytes().splitlines()
    first, last = (datetime.fromisoformat(json.loads(row)["timestamp"]) for row in (rows[0], rows[-1]))
    return first, last


def write_folder(journal: Path, candles: Path, out: Path) -> Path:
    """The user folder; returns the configuration."""
    import pandas as pd

    data = out / "data" / "binance" / "futures"
    data.mkdir(parents=True, exist_ok=True)
    for pair in PAIRS:
        name = pair.replace("/", "_").replace(":", "_")
        shutil.copyfile(candles / f"{name}-1h-futures.feather", data / f"{name}-1h-futures.feather")
        frame = pd.read_feather(data / f"{name}-1h-futures.feather")
        frame.to_feather(data / f"{name}-1h-mark.feather")
        rates = frame[frame["date"].dt.hour % 8 == 0].reset_index(drop=True).copy()
        rates[["open", "high", "low", "close", "volume"]] = 0.0
        for timeframe in ("1h", "8h"):  # which of them is wanted depends on freqtrade's version
            rates.to_feather(data / f"{name}-{timeframe}-funding_rate.feather")
    strategies = out / "strategies"
    strategies.mkdir(exist_ok=True)
    shutil.copyfile(EXAMPLE, strategies / EXAMPLE.name)
    (strategies / "AsReported.py").write_text(STRATEGY, encoding="utf-8")
    config = out / "config.json"
    settings = {
        "exchange": {"name": "binance", "key": "", "secret": "", "pair_whitelist": PAIRS, "pair_blacklist": []},
        "pairlists": [{"method": "StaticPairList"}],
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "timeframe": "1h",
        "stake_currency": "USDT",
        "stake_amount": "unlimited",
        "max_open_trades": len(PAIRS),
        "dry_run": True,
        "dry_run_wallet": 10000,
        "tradable_balance_ratio": 0.99,
        "fee": FEE,
        "entry_pricing": {"price_side": "same", "use_order_book": True},
        "exit_pricing": {"price_side": "same", "use_order_book": True},
        "candletune": {"signals": str(journal.resolve()), "role": "shadow"},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    return config


def without_an_exchange() -> None:
    """Let freqtrade know the markets above and ask nobody."""
    exchange = import_module("freqtrade.exchange.exchange").Exchange

    async def listed(self: Any, reload: bool = False) -> Any:
        await asyncio.sleep(0)
        self._api_async.set_markets([market(pair) for pair in PAIRS])
        return self._api_async.markets

    exchange._api_reload_markets = listed


def freqtrade(*words: str) -> None:
    """One of its commands, in this process."""
    import_module("freqtrade.main").main(list(words))


def pages(journal: Path, candles: Path, out: Path) -> None:
    """Backtest and plots."""
    config = write_folder(journal, candles, out)
    without_an_exchange()
    first, last = period(journal)
    spans = f"{first:%Y%m%d}-{last + timedelta(days=1):%Y%m%d}", f"{first:%Y%m%d}-{first + timedelta(days=31):%Y%m%d}"
    common: Sequence[str] = ("--userdir", str(out), "--config", str(config), "--strategy", "AsReported")
    for command, span in (("backtesting", spans[0]), ("plot-profit", spans[0]), ("plot-dataframe", spans[1])):
        more = ["--breakdown", "month", "--cache", "none"] if command == "backtesting" else ["--pairs", PAIRS[0]]
        try:
            freqtrade(command, *common, "--timerange", span, *(more if command != "plot-profit" else []))
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    pages(*map(Path, sys.argv[1:4]))
