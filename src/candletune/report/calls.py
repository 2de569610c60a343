"""Every call and every candle of the report's period, packed for the page's script: nothing is thinned.

Numbers are base64 of little-endian arrays, a fraction of the same in JSON. A candle's time is its close, when the
decision was made, so that a call stands on its candle's close.
"""

import base64
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.evaluation.grounding import rendered_again, with_reasons
from candletune.journal import SIDES
from candletune.market.candles import load_candles, ticker_of
from candletune.prompts.grounding import check_reason

EXPLAINED: Final = 500
"""Rows whose prompt, reasons and claims are in the page; the latest, and the page says of how many."""
NONE: Final = 3
"""An action that is no decision: invalid, skipped or an error."""
LEVELS: Final = 65_535
"""Steps of a candle's price from the lowest to the highest of its ticker."""
Json = dict[str, object]
"""A part of what the script reads."""


@dataclass(frozen=True, slots=True)
class CallsView:
    """What the page's script shows of the calls.

    Attributes:
        data: for the script; see `report/templates/calls.js`.
        rows: decisions in it, all of the journal's.
        explained: of these, with prompt, reasons and checked claims.
        with_reasons: rows that have a reason at all.
        candles: whether there are candles to draw; without, the price at each decision is.
    """

    data: Json
    rows: int
    explained: int
    with_reasons: int
    candles: bool


def calls_view(config: Config, scored: pl.DataFrame) -> CallsView:
    """Pack scored rows and their candles.

    Args:
        config: names candles and timeframe.
        scored: see `outcomes.score_rows`.
    """
    rows = scored.sort("timestamp", "ticker")
    tickers = sorted(rows["ticker"].unique().to_list())
    pairs = {ticker_of(pair): pair for pair in config.data.pairs}
    candles = {ticker: _candles(config, pairs.get(ticker), rows.filter(ticker=ticker)) for ticker in tickers}
    reasons = with_reasons(rows.with_row_index("index"))
    explained = _explained(config, reasons.tail(EXPLAINED))
    data: Json = {
        "simulated": config.simulate.enabled,
        "tickers": tickers,
        "candles": candles,
        "ticker": _packed(rows["ticker"].replace_strict(tickers, range(len(tickers)), return_dtype=pl.UInt8), "u1"),
        "time": _packed(rows["timestamp"].dt.epoch("s"), "<u4"),
        "price": _packed(rows["price"], "<f4"),
        "moved": _packed((10_000 * rows["forward_return"]).round().clip(-32_767, 32_767).fill_null(-32_768), "<i2"),
        "explained": explained,
    }
    for side in SIDES:
        data |= _side(rows, side)
    return CallsView(data, len(rows), len(explained), len(reasons), any(candles.values()))


def _packed(values: pl.Series, kind: str) -> str:
    return base64.b64encode(values.to_numpy().astype(kind).tobytes()).decode()


def _side(rows: pl.DataFrame, side: str) -> Json:
    """Action (0 BUY, 1 SELL, 2 HOLD, 3 none), right (1; 0: wrong; 2: open), and probability in per cent (255: none)."""
    codes = {name: index for index, name in enumerate(DECISIONS)}
    action = pl.col(f"{side}_action")
    chance = pl.lit(None, dtype=pl.Float64)
    for name in DECISIONS:
        chance = pl.when(action == name).then(pl.col(f"{side}_p_{name.lower()}")).otherwise(chance)
    table = rows.select(
        action=action.replace_strict(codes, default=NONE, return_dtype=pl.UInt8).fill_null(NONE),
        right=pl.when(pl.col("forward_return").is_null() | action.is_null())
        .then(2)
        .otherwise(pl.col(f"{side}_correct").cast(pl.UInt8).fill_null(2)),
        chance=(100 * chance).round().fill_null(255).fill_nan(255),
    )
    return {f"{side}_{name}": _packed(table[name], "u1") for name in table.columns}


def _candles(config: Config, pair: str | None, rows: pl.DataFrame) -> Json | None:
    """A ticker's candles over the period, on a grid without gaps; None where there is no file.

    A price is one of LEVELS steps from the lowest to the highest, far finer than a screen; 0 is a missing candle.
    """
    if pair is None or rows.is_empty():
        return None
    step = timedelta(minutes=timeframe_minutes(config.data.timeframe))
    first, last = rows["timestamp"].min(), rows["timestamp"].max()
    try:
        frame = load_candles(config.data.folder, pair, config.data.timeframe).frame
    except InputError:
        return None
    frame = frame.with_columns(close_time=pl.col("date") + step).filter(
        pl.col("close_time").is_between(first, last + config.horizon)  # type: ignore[operator]
    )
    if frame.is_empty():
        return None
    start = frame["close_time"][0]
    place = ((frame["close_time"] - start) / step).round().cast(pl.Int64).to_numpy()
    prices = frame.select("open", "high", "low", "close").to_numpy()
    low, size = float(prices.min()), float(np.ptp(prices)) or 1.0
    grid = np.zeros((int(place[-1]) + 1, 4), dtype="<u2")
    grid[place] = 1 + np.round((prices - low) / size * (LEVELS - 1))
    return {
        "start": int(start.timestamp()),
        "step": int(step.total_seconds()),
        "low": low,
        "size": size,
        "values": base64.b64encode(grid.tobytes()).decode(),
    }


def _explained(config: Config, rows: pl.DataFrame) -> dict[str, Json]:
    """By row number: the prompt (null where it can't be made again), both reasons, their claims as `[text, holds]`."""
    if rows.is_empty():
        return {}
    rendered = rendered_again(config, rows) or {}
    found = {}
    for row in rows.iter_rows(named=True):
        known = rendered.get(row["prompt_sha256"])
        entry: Json = {"prompt": None if known is None else known.prompt}
        for side in SIDES:
            reason = row[f"{side}_reasoning"]
            claims = [] if known is None or not reason else check_reason(reason, known.context)
            entry[side] = [reason, [[claim.text, claim.holds] for claim in claims]]
        found[str(row["index"])] = entry
    return found
