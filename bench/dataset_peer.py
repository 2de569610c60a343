#!/usr/bin/env python3
"""The dataset written the plain way: pandas, one row at a time. The peer of bench/dataset.py; not part of the package.

It reads the same files and follows the same rules (DESIGN's contracts): Wilder's RSI, MACD, EMA and Bollinger bands as
recurrences and windows over `iloc`, labels and context looked up for each row, the same seeded sampling. The prompt
template and the wording of reasons are texts, so both programs use the package's; everything computed is written anew.

Usage: python bench/dataset_peer.py DATA_FOLDER TARGET.jsonl [--context all|chosen]
"""

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candletune.market.headlines.text import clean_headline
from candletune.prompts.context import context_of
from candletune.prompts.reasons import write_reason
from candletune.prompts.template import load_template

PAIRS, SEED, HORIZON, THRESHOLD, EMBARGO = ("BTC", "ETH"), 17, 12, 0.02, 12
PER_CLASS, EVAL_FRACTION, WARM_UP, SETTLED = 1000, 0.1, 150, 30
CONTEXTS = (("4h", 4), ("12h", 12), ("1d", 24))
HOUR = pd.Timedelta(hours=1)
MOODS = ((25, "Extreme Fear"), (46, "Fear"), (54, "Neutral"), (75, "Greed"), (100, "Extreme Greed"))


class Ema:
    """An exponential mean seeded, as TA-Lib does it, with the plain mean of its first values."""

    def __init__(self, period: int) -> None:
        self.period, self.seen, self.value = period, [], math.nan  # type: ignore[var-annotated]

    def add(self, value: float) -> float:
        if len(self.seen) < self.period:
            self.seen.append(value)
            if len(self.seen) == self.period:
                self.value = sum(self.seen) / self.period
        else:
            self.value = (value - self.value) * (2 / (self.period + 1)) + self.value
        return self.value


class Rsi:
    """Wilder's RSI(14)."""

    def __init__(self) -> None:
        self.last, self.changes, self.gain, self.loss = math.nan, 0, 0.0, 0.0

    def add(self, close: float) -> float:
        change = close - self.last
        self.last = close
        if math.isnan(change):
            return math.nan
        self.changes += 1
        if self.changes <= 14:
            self.gain += max(change, 0.0) / 14
            self.loss += max(-change, 0.0) / 14
        else:
            self.gain = (self.gain * 13 + max(change, 0.0)) / 14
            self.loss = (self.loss * 13 + max(-change, 0.0)) / 14
        total = self.gain + self.loss
        return 100 * self.gain / total if self.changes >= 14 and total else math.nan


def band_words(percent: float) -> str:
    if percent > 1:
        return "above upper band"
    if percent >= 0.8:
        return "near upper band"
    if percent < 0:
        return "below lower band"
    return "near lower band" if percent <= 0.2 else "inside bands"


def indicator_records(candles: pd.DataFrame, asset: str) -> list[dict[str, Any]]:
    """Indicators and label of every candle, one after the other."""
    rsi, fast, slow, short, long, signal = Rsi(), Ema(9), Ema(21), Ema(12), Ema(26), Ema(9)
    records = []
    for i in range(len(candles)):
        row = candles.iloc[i]
        close = row["close"]
        strength, ema_fast, ema_slow = rsi.add(close), fast.add(close), slow.add(close)
        # TA-Lib starts the short mean late, so that both means of MACD begin together.
        first = short.add(close) if i >= 14 else math.nan
        macd = first - long.add(close)
        hist = macd - signal.add(macd) if not math.isnan(macd) else math.nan
        if i < WARM_UP:
            continue
        window = candles["close"].iloc[i - 19 : i + 1]
        deviation = window.std(ddof=0)
        percent = (close - (window.mean() - 2 * deviation)) / (4 * deviation) if deviation > 0 else 0.5
        day_ago = candles.iloc[i - 24]
        if row["date"] - day_ago["date"] != pd.Timedelta(days=1):
            continue
        label, change = None, None
        if i + HORIZON < len(candles):
            later = candles.iloc[i + HORIZON]
            if later["date"] - row["date"] == HORIZON * HOUR:
                change = round(later["close"] / close - 1, 12)
                label = "BUY" if change > THRESHOLD else "SELL" if change < -THRESHOLD else "HOLD"
        if label is None:
            continue
        records.append(
            {
                "asset": asset,
                "decision_time": row["date"] + HOUR,
                "close": close,
                "change_24h": (close / day_ago["close"] - 1) * 100,
                "rsi": strength,
                "macd_hist": hist,
                "ema_fast": ema_fast,
                "ema_slow": ema_slow,
                "ema_gap_pct": (ema_fast / ema_slow - 1) * 100,
                "ema_bullish": bool(ema_fast > ema_slow),
                "bb_position": band_words(percent),
                "forward_return": change,
                "label": label,
            }
        )
    return records


def timeframe_records(candles: pd.DataFrame, hours: int) -> pd.DataFrame:
    """RSI and trend of the longer candles, one after the other."""
    rsi, fast, slow, last, records = Rsi(), Ema(9), Ema(21), math.nan, []
    bars = candles.resample(f"{hours}h", on="date", origin="epoch").agg({"close": "last"})
    ends = candles.resample(f"{hours}h", on="date", origin="epoch")["date"].max()
    for opened, bar in bars.iterrows():
        if ends[opened] + HOUR != opened + hours * HOUR:
            continue
        close = bar["close"]
        strength, up = rsi.add(close), fast.add(close) > slow.add(close)
        change, last = (close / last - 1) * 100, close
        records.append({"closed": opened + hours * HOUR, "rsi": strength, "bullish": up, "change": change})
    return pd.DataFrame(records[SETTLED:])


def add_context(
    record: dict[str, Any], frames: dict[str, pd.DataFrame], fear: pd.DataFrame, news: pd.DataFrame
) -> None:
    """What else was known at the record's time: looked up in every table."""
    time = record["decision_time"]
    parts = []
    for (name, hours), state in zip(CONTEXTS, frames.values(), strict=True):
        past = state[(state["closed"] <= time) & (state["closed"] >= time - (hours - 1) * HOUR)]
        if past.empty:
            parts.append(f"{name} N/A")
            continue
        last = past.iloc[-1]
        change = round(last["change"], 1) + 0.0
        trend = "bullish" if last["bullish"] else "bearish"
        sign = "+" if change >= 0 else "-"
        parts.append(f"{name} {trend} RSI {round_half_away(last['rsi'])} ({sign}{abs(change):.1f}%)")
    record["timeframe_summary"] = " | ".join(parts)
    known = fear[(fear["date"] <= time) & (fear["date"] >= time - pd.Timedelta(days=2))]
    record["fear_greed"] = int(known.iloc[-1]["value"]) if len(known) else 50
    record["fear_greed_class"] = next(word for bound, word in MOODS if record["fear_greed"] <= bound)
    window = news[(news["published_at"] <= time) & (news["published_at"] > time - pd.Timedelta(hours=24))]
    mean = round(window["polarity"].mean(), 9) if len(window) else 0.0
    record["news_sentiment"] = "positive" if mean > 0.05 else "negative" if mean < -0.05 else "neutral"
    record["sentiment_confidence"] = round(abs(mean) * 100) / 100
    record["headlines"] = " | ".join(window["title"].tail(3).tolist()[::-1]) or "N/A"


def round_half_away(value: float) -> int:
    return math.floor(value + 0.5)


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """The split with purge and embargo, and the same seeded, balanced choice."""
    ordered = rows["decision_time"].sort_values().to_list()
    boundary = ordered[min(len(ordered) - 1, round(len(ordered) * (1 - EVAL_FRACTION)))]
    purged = boundary - (HORIZON + EMBARGO) * HOUR
    rows["key"] = np.random.default_rng(SEED).permutation(len(rows))
    rows["split"] = [
        "eval" if time >= boundary else "train" if time < purged else None for time in rows["decision_time"]
    ]
    rows["month"] = [f"{time:%Y-%m}" for time in rows["decision_time"]]
    chosen = []
    for split, count in (("train", round(PER_CLASS * (1 - EVAL_FRACTION))), ("eval", round(PER_CLASS * EVAL_FRACTION))):
        for label in ("BUY", "SELL", "HOLD"):
            part = rows[(rows["split"] == split) & (rows["label"] == label)].copy()
            part["rank"] = part.groupby(["asset", "month"])["key"].rank()
            chosen.append(part.sort_values(["rank", "key"]).head(count))
    return pd.concat(chosen).sort_values(["decision_time", "asset"])


def main() -> None:
    """Read, compute, choose, render, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--context", choices=("all", "chosen"), default="all", help="rows whose context is looked up")
    parser.add_argument("--test-start", type=pd.Timestamp, required=True, help="later decisions are kept out")
    arguments = parser.parse_args()
    fear = pd.read_csv(arguments.data / "fear_greed.csv", parse_dates=["date"])
    fear["date"] = fear["date"].dt.tz_localize("UTC")
    news = pd.read_csv(arguments.data / "headlines.csv", parse_dates=["published_at"], keep_default_na=False)
    news["title"] = [clean_headline(title) for title in news["title"]]
    news = news.sort_values(["published_at", "title", "polarity"])
    records: list[dict[str, Any]] = []
    frames = {}
    for asset in PAIRS:
        candles = pd.read_feather(arguments.data / "futures" / f"{asset}_USDT_USDT-1h-futures.feather")
        frames[asset] = {name: timeframe_records(candles, hours) for name, hours in CONTEXTS}
        records += indicator_records(candles, asset)
    if arguments.context == "all":
        for record in records:
            add_context(record, frames[record["asset"]], fear, news)
    rows = pd.DataFrame(records).sort_values(["decision_time", "asset"], ignore_index=True)
    # No outcome may reach into the test.
    rows = rows[rows["decision_time"] < arguments.test_start - (HORIZON + EMBARGO) * HOUR].reset_index(drop=True)
    template = load_template()
    with arguments.target.open("w", encoding="utf-8") as file:
        for record in choose(rows).to_dict("records"):
            if arguments.context == "chosen":
                add_context(record, frames[record["asset"]], fear, news)
            context = context_of(record)
            rng = random.Random(f"{SEED}/{record['asset']}/{record['decision_time'].isoformat()}")  # noqa: S311
            _, reason = write_reason(context, record["label"], rng)
            user = {"role": "user", "content": template.render(context)}
            assistant = {"role": "assistant", "content": f"DECISION: {record['label']} - {reason}"}
            file.write(json.dumps({"messages": [user, assistant]}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
