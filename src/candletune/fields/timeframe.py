"""Candle length of the decision: shown by templates that want it, for a dataset of several timeframes."""

import polars as pl

from candletune.config import DataConfig
from candletune.fields.field import NOT_AVAILABLE, Context, Field, RowColumns, Shown
from candletune.fields.keys import text_key
from candletune.market.candles import Candles


def _describe(rows: pl.DataFrame, candles: Candles, _: DataConfig) -> pl.DataFrame:
    return rows.with_columns(timeframe=pl.lit(candles.timeframe))


def _display(context: Context) -> Shown:
    return {"timeframe": context.get("timeframe") or NOT_AVAILABLE}


FIELD = Field(
    name="timeframe",
    order=110,
    source="the candle the decision was made on: `data.timeframe`, or another of `dataset.timeframes`",
    keys=(text_key("timeframe", example="1h", limit=8),),
    columns=(RowColumns(("timeframe",), _describe),),
    display=_display,
)
