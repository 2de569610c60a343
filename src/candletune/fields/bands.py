"""Where the price stands in its Bollinger bands (20 candles, 2 population standard deviations)."""

import re
from collections.abc import Mapping

import numpy as np
import polars as pl
import talib

from candletune.config import DataConfig
from candletune.fields.field import (
    NOT_AVAILABLE,
    CandleColumns,
    Context,
    Fact,
    Feature,
    Field,
    Leaning,
    RowColumns,
    Shown,
    check,
)
from candletune.fields.keys import text_key
from candletune.market.candles import Candles

PERIOD, DEVIATIONS = 20, 2.0
_PHRASES: Mapping[str, tuple[Leaning, tuple[str, ...]]] = {
    "above upper band": ("bear", ("a price above the upper Bollinger band", "a close above the upper band")),
    "near upper band": ("bear", ("a price near the upper Bollinger band", "a close near the upper band")),
    "below lower band": ("bull", ("a price below the lower Bollinger band", "a close below the lower band")),
    "near lower band": ("bull", ("a price near the lower Bollinger band", "a close near the lower band")),
    "inside bands": ("neutral", ("a price inside the Bollinger bands", "a close inside the bands")),
}


def bollinger_words(percent: pl.Expr) -> pl.Expr:
    """%B as the prompt says it: outside a band, near one (within a fifth of the width), or inside."""
    return (
        pl.when(percent > 1).then(pl.lit("above upper band"))
        .when(percent >= 0.8).then(pl.lit("near upper band"))
        .when(percent < 0).then(pl.lit("below lower band"))
        .when(percent <= 0.2).then(pl.lit("near lower band"))
        .when(percent.is_not_null()).then(pl.lit("inside bands"))
    )  # fmt: skip


def _compute(candles: pl.DataFrame, _: int) -> dict[str, pl.Series]:
    close = candles["close"].to_numpy()
    upper, _middle, lower = talib.BBANDS(close, PERIOD, DEVIATIONS, DEVIATIONS)
    width = upper - lower
    # A window of equal closes has no width: the price sits in the middle of its bands.
    return {"bb_percent": pl.Series(np.where(width > 0, (close - lower) / np.where(width > 0, width, 1.0), 0.5))}


def _describe(rows: pl.DataFrame, _: Candles, __: DataConfig) -> pl.DataFrame:
    return rows.with_columns(bb_position=bollinger_words(pl.col("bb_percent")))


def _display(context: Context) -> Shown:
    return {"bb_position": context.get("bb_position") or NOT_AVAILABLE}


def _fact(context: Context, _: Shown) -> Fact | None:
    position = context.get("bb_position") or ""
    return Fact("bands", *_PHRASES[position]) if position in _PHRASES else None


def _position(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    if match["inside"]:
        return context.get("bb_position") == "inside bands"
    where = {"at": "near", "touching": "near", "over": "above", "under": "below"}.get(match["where"], match["where"])
    return bool(context.get("bb_position") == f"{where} {match['band'].lower()} band")


FIELD = Field(
    name="bands",
    order=50,
    source="%B of the Bollinger bands (20, 2), by TA-Lib: 0 is the lower band, 1 the upper one; in words in the prompt",
    keys=(text_key("bb_position", example="inside bands"),),
    columns=(CandleColumns(("bb_percent",), _compute), RowColumns(("bb_position",), _describe)),
    display=_display,
    fact=_fact,
    checks=(
        check(
            "band",
            r"\b(?P<where>above|below|near|at|touching|over|under) (?:the |its )?(?P<band>upper|lower)"
            r"(?: Bollinger)? bands?\b|\b(?P<inside>inside|within) (?:the )?(?:Bollinger )?bands",
            _position,
        ),
    ),
    features=(Feature("bb_percent", pl.col("bb_percent")),),
)
