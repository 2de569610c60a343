"""A clean context with every key, for prompts, facts and reasons."""

from typing import Any

FULL_CONTEXT: dict[str, Any] = {
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
    "news_sentiment": "negative",
    "sentiment_confidence": 0.31,
    "timeframe_summary": "4h bearish RSI 33 (-0.8%) | 12h bearish RSI 41 (-0.2%) | 1d bullish RSI 55 (+0.1%)",
    "headlines": "N/A",
}
