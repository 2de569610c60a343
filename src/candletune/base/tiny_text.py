"""What the tiny base is pre-trained on: the format, with decisions that carry no information."""

import random
from pathlib import Path

import polars as pl

from candletune.config import Config, load_config
from candletune.decisions import DECISIONS
from candletune.fields.columns import market_rows
from candletune.market.candles import Candles
from candletune.market.simulate import simulate, to_candles
from candletune.prompts.context import context_of
from candletune.prompts.reasons import write_completion
from candletune.prompts.template import load_template

EXAMPLES = 3000


def pretraining_text(config: Config, seed: int = 97) -> tuple[list[str], list[str]]:
    """Prompts from a market without signal, and completions whose decision is a coin toss."""
    noise = load_config(None, ["simulate.signal=0.6", "simulate.years=2"])
    template = load_template(config.prompt.template)
    frames = []
    for index, (ticker, price) in enumerate((("BTC", 30_000.0), ("ETH", 2_000.0), ("SOL", 90.0), ("XRP", 0.5))):
        market = simulate((seed, index), noise.simulate.hours, noise.simulate.signal)
        start = noise.simulate.start
        assert start is not None  # noqa: S101
        frame = to_candles(market, start=start, price=price, seed=(seed, index))
        frame = frame.with_columns(pl.col("date").cast(pl.Datetime("us", "UTC")))
        rows = market_rows(Candles(frame, {}, Path(ticker), ticker, "1h"), noise.data)
        frames.append(rows.gather_every(max(1, len(rows) * 4 // EXAMPLES)))
    rng = random.Random(seed)  # noqa: S311
    prompts, completions = [], []
    for row in pl.concat(frames).iter_rows(named=True):
        context = context_of(row)
        prompts.append(template.render(context))
        completions.append(write_completion(context, DECISIONS[rng.randrange(3)], rng)[1])
    return prompts, completions
