"""The headlines that a candidate reads, for the baselines that read."""

import polars as pl

from candletune.config import Config
from candletune.fields.columns import add_context
from candletune.market.sentiment import load_sentiment
from candletune.prompts.template import load_template


def with_headlines(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Rows by decision time with the context from outside, where there are headlines and the prompt shows them.

    Raises:
        InputError: a context file, or the template, is missing or broken.
    """
    if config.data.headlines is None or "headlines" not in load_template(config.prompt.template).shown_keys:
        return rows
    return add_context(rows, load_sentiment(config.data), config.data)
