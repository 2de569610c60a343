"""Market rows of one pair after the other: a pair's candles are held only while it is worked on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.fields.columns import add_context, describe_rows, indicator_rows
from candletune.fields.registry import COLUMNS
from candletune.hashes import sha256_bytes
from candletune.labels import label_candles, labels_for
from candletune.market.candles import Candles, has_candle_file, load_candles, ticker_of
from candletune.market.resample import longer_candles
from candletune.market.sentiment import load_sentiment
from candletune.prompts.context import context_of
from candletune.prompts.template import Template, load_template

LABELS = pl.Enum(DECISIONS)


@dataclass(frozen=True, slots=True)
class PairCandles:
    """One pair's candles of every timeframe decided on.

    Attributes:
        shortest: those of `data.timeframe`.
        files: what the longer timeframes' own files hold, where there are such files.
    """

    shortest: Candles
    files: Mapping[str, Candles]

    def of(self, timeframe: str) -> Candles:
        """Candles of one timeframe: its own file's, and made from the shortest where that has none."""
        if timeframe == self.shortest.timeframe:
            return self.shortest
        return longer_candles(self.shortest, timeframe, self.files.get(timeframe))

    def until(self, time: datetime) -> "PairCandles":
        """What had closed by `time`, in every file."""
        return PairCandles(_cut(self.shortest, time), {name: _cut(own, time) for name, own in self.files.items()})


def _cut(candles: Candles, time: datetime) -> Candles:
    closed = pl.col("date") + pl.duration(minutes=timeframe_minutes(candles.timeframe)) <= time
    return replace(candles, frame=candles.frame.filter(closed))


def load_pair(config: Config, pair: str) -> Candles:
    """One configured pair's candles of `data.timeframe`.

    Raises:
        InputError: the file is missing or broken.
    """
    return load_candles(config.data.folder, pair, config.data.timeframe)


def load_timeframes(config: Config, pair: str) -> PairCandles:
    """One configured pair's candles of every timeframe decided on.

    Raises:
        InputError: a file is broken, or the one of `data.timeframe` missing.
    """
    folder = config.data.folder
    longer = [name for name in config.timeframes[1:] if has_candle_file(folder, pair, name)]
    return PairCandles(load_pair(config, pair), {name: load_candles(folder, pair, name) for name in longer})


def check_tickers(config: Config) -> None:
    """Two pairs may not share a ticker, since a prompt and a journal row name only that.

    Raises:
        InputError: they do.
    """
    tickers = [ticker_of(pair) for pair in config.data.pairs]
    if doubled := {ticker for ticker in tickers if tickers.count(ticker) > 1}:
        raise InputError(f"data.pairs: {', '.join(sorted(doubled))} appears in two pairs; keep one of them")


def decision_rows(config: Config, *, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
    """What was knowable at every decision time in [start, end), rendered; never looks into the future.

    Returns:
        Market rows of all pairs by decision time and asset, with `prompt` and `prompt_sha256`.

    Raises:
        InputError: a candle or context file, or the template, is missing or broken.
    """
    check_tickers(config)
    frames = []
    for pair in config.data.pairs:
        candles = load_pair(config, pair)
        rows = indicator_rows(candles)
        if start is not None:
            rows = rows.filter(pl.col("decision_time") >= start)
        if end is not None:
            rows = rows.filter(pl.col("decision_time") < end)
        frames.append(describe_rows(rows, candles, config.data))
    rows = add_context(pl.concat(frames), load_sentiment(config.data), config.data)
    return add_prompts(rows.select(COLUMNS).sort("decision_time", "asset"), load_template(config.prompt.template))


def add_prompts(rows: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Add `prompt` and `prompt_sha256` to market rows."""
    prompts = [template.render(context_of(row)) for row in rows.iter_rows(named=True)]
    hashes = [sha256_bytes(prompt.encode()) for prompt in prompts]
    return rows.with_columns(
        prompt=pl.Series(prompts, dtype=pl.String), prompt_sha256=pl.Series(hashes, dtype=pl.String)
    )


def labelled_pairs(
    config: Config, reporter: Reporter, title: str
) -> Iterator[tuple[tuple[Candles, ...], pl.DataFrame]]:
    """Each pair in turn, by ticker: its candles, and every decision time that has indicators and a label.

    Yields:
        The candles of each timeframe decided on; and `asset`, `timeframe` (Enum), `decision_time`, `forward_return`,
        `label` (Enum) by time and timeframe.

    Raises:
        InputError: a file is missing or broken, or two pairs share a ticker.
    """
    check_tickers(config)
    assets = pl.Enum(sorted(ticker_of(pair) for pair in config.data.pairs))
    timeframes = pl.Enum(config.timeframes)
    with reporter.task(title, total=len(config.data.pairs)) as task:
        for pair in sorted(config.data.pairs, key=ticker_of):
            loaded = load_timeframes(config, pair)
            candles = tuple(loaded.of(timeframe) for timeframe in config.timeframes)
            frames = [_labelled(config, one) for one in candles]
            rows = pl.concat(frames).select(
                pl.col("asset").cast(assets),
                pl.col("timeframe").cast(timeframes),
                "decision_time",
                "forward_return",
                pl.col("label").cast(LABELS),
            )
            yield candles, rows if len(frames) == 1 else rows.sort("decision_time", "timeframe")
            task.advance()


def _labelled(config: Config, candles: Candles) -> pl.DataFrame:
    """Decision times with indicators and a label, by time."""
    rule = labels_for(config.labels, config.data.timeframe, candles.timeframe)
    labels = label_candles(candles.frame, rule, timeframe_minutes(candles.timeframe)).drop_nulls("label")
    times = indicator_rows(candles).select("asset", "decision_time", timeframe=pl.lit(candles.timeframe))
    return times.join(labels, on="decision_time", how="inner", maintain_order="left")


def complete_rows(config: Config, wanted: pl.DataFrame) -> pl.DataFrame:
    """The whole market row of each wanted decision time, in the order given.

    Args:
        config: names candles and context.
        wanted: `asset`, `timeframe`, `decision_time` and further columns, which are kept.

    Returns:
        `fields.registry.COLUMNS` and the further columns.
    """
    wanted = wanted.with_row_index("_row").with_columns(pl.col("asset", "timeframe").cast(pl.String))
    extra = [name for name in wanted.columns if name not in ("asset", "timeframe", "decision_time")]
    frames = []
    for pair in config.data.pairs:
        of_pair = wanted.filter(pl.col("asset") == ticker_of(pair)).drop("asset")
        if of_pair.is_empty():
            continue
        loaded = load_timeframes(config, pair)
        for timeframe in config.timeframes:
            mine = of_pair.filter(pl.col("timeframe") == timeframe).drop("timeframe")
            if mine.is_empty():
                continue
            candles = loaded.of(timeframe)
            rows = indicator_rows(candles).join(mine, on="decision_time", how="inner", maintain_order="left")
            frames.append(describe_rows(rows, candles, config.data))
    rows = add_context(pl.concat(frames), load_sentiment(config.data), config.data)
    return rows.sort("_row").select(*COLUMNS, *extra).drop("_row")
