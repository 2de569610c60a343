"""The newest titles of the last hours."""

import polars as pl

from candletune.config import DataConfig
from candletune.fields.field import Context, ContextColumns, Field, Shown
from candletune.fields.keys import headlines_key
from candletune.market.sentiment import NO_HEADLINES, Sentiment, add_headlines


def _join(rows: pl.DataFrame, sentiment: Sentiment, data: DataConfig) -> pl.DataFrame:
    return add_headlines(rows, sentiment.headlines, data)


def _display(context: Context) -> Shown:
    return {"headlines": context.get("headlines") or NO_HEADLINES}


FIELD = Field(
    name="headlines",
    order=100,
    source="the newest `data.headline_count` titles of the last `data.headline_hours`, newest first; else N/A",
    keys=(headlines_key("headlines"),),
    columns=(ContextColumns(("headlines",), "headlines", _join),),
    display=_display,
)
