"""A trader's own prompt, as it is sent today; run as a program it writes samples of it.

In this folder:

    python trader.py > prompts.jsonl
    candletune template from-fstring trader.py --name build_prompt > trader.j2
    candletune template check trader.j2 --samples prompts.jsonl
"""

import json
from typing import Any

CONTEXTS: list[dict[str, Any]] = [
    {
        "ticker": "BTC",
        "price_usd": 64250.5,
        "change_24h": -1.234,
        "rsi": 28.44,
        "macd_hist": -35.678,
        "ema_bullish": False,
        "ema_gap_pct": -0.456,
        "bb_position": "below lower band",
        "fear_greed": 22,
        "fear_greed_class": "Extreme Fear",
        "timeframe_summary": "4h bearish RSI 33 (-0.8%) | 1d bullish RSI 55 (+0.1%)",
        "headlines": ["Miners sell into the dip", "ETF inflows slow down", "Exchange adds a listing"],
    },
    {
        "ticker": "ETH",
        "price_usd": 3120.0,
        "change_24h": 4.2,
        "rsi": 71.06,
        "macd_hist": 0.0042,
        "ema_bullish": True,
        "ema_gap_pct": 1.2,
        "bb_position": "near upper band",
        "fear_greed": 50,
        "fear_greed_class": "Neutral",
        "timeframe_summary": "4h bullish RSI 61 (+0.8%)",
        "headlines": [],
    },
]


def build_prompt(ctx: dict[str, Any]) -> str:
    """The prompt for one context."""
    price = ctx["price_usd"]
    rsi = ctx["rsi"]
    state = "oversold" if rsi < 30 else "overbought" if rsi > 70 else "neutral"
    trend = "UP" if ctx["ema_bullish"] else "DOWN"
    return f"""[INST]You trade {ctx["ticker"]} futures. Decide for the next 12 hours.

price={price:,.1f} USD, 24h={ctx["change_24h"]:+.1f}%
rsi={rsi:.2f} [{state}], macd={ctx["macd_hist"]:.4f}
trend={trend} ({abs(ctx["ema_gap_pct"]):.3f}% apart), bands: {ctx["bb_position"]}
mood={ctx["fear_greed"]}/100 {ctx["fear_greed_class"].upper()}
longer: {ctx["timeframe_summary"].replace(" | ", "; ")}
news: {" / ".join(ctx["headlines"][:2])}

DECISION: [BUY/SELL/HOLD] - [reason][/INST]"""


if __name__ == "__main__":
    for context in CONTEXTS:
        print(json.dumps({"context": context, "prompt": build_prompt(context)}))
