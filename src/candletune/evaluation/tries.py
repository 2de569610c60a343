"""From rows and configuration to a try: which candles a verdict looks at, under which rule, and what it may spend."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import JsonValue

from candletune.artifacts import JudgedModel, TrySpent
from candletune.artifacts.verdict import Source
from candletune.config import Config
from candletune.errors import InputError
from candletune.evaluation.budget import Level, alpha_for
from candletune.evaluation.ledger import ANEW, Attempt, Ledger
from candletune.evaluation.source import adapter_of
from candletune.journal import Role
from candletune.market.candles import load_candles, ticker_of

CLOSES: Final = 64
"""Midnights kept of a try at most: enough to know its candles again."""
_NO_OTHER_TRY: Final = frozenset({"journal", "start", "criteria", "ledger", "baselines", "must_beat", "min_reviewed"})
"""Keys of `evaluate` that leave the numbers of the evidence as they are, or say no more than where the rows begin."""


def ledger_of(config: Config) -> Ledger:
    """The configured ledger, or the one beside `live.state`: it outlives every run folder."""
    return Ledger(config.evaluate.ledger or config.live.state.with_name("ledger.jsonl"))


def attempt_of(
    rows: pl.DataFrame, models: dict[Role, JudgedModel], config: Config, *, source: Source, run: Path
) -> Attempt:
    """What a verdict on these rows would look at.

    Args:
        rows: of a journal or about to be replayed: `timestamp`, `ticker`, `template_sha256`, `base_sha256` and, where
            outcomes are known, `forward_return`; at least one.
        models: who is judged.
        config: names candles and rule.
        source: of the rows.
        run: the run folder.
    """
    times = rows["timestamp"].unique().sort()
    start: datetime = times[0]
    end: datetime = times[-1] + config.horizon
    known = 0 if "forward_return" not in rows.columns else len(rows) - rows["forward_return"].null_count()
    settings: dict[str, JsonValue] = {
        name: value for name, value in config.evaluate.model_dump(mode="json").items() if name not in _NO_OTHER_TRY
    }
    step = times.diff().drop_nulls().median()
    settings |= {
        "seed": config.seed,
        "horizon_minutes": config.horizon.total_seconds() / 60,
        "step_minutes": None if not isinstance(step, timedelta) else step.total_seconds() / 60,
        "template_sha256": rows["template_sha256"][0],
        "base_sha256": rows["base_sha256"][0],
    }
    return Attempt(
        candidate=models[Role.CANDIDATE],
        incumbent=models[Role.INCUMBENT],
        source=source,
        start=start.isoformat(),
        end=end.isoformat(),
        rows=len(rows),
        known=known,
        closes=closes_of(config, rows["ticker"].unique().sort(), start, end),
        settings=settings,
        budget=round(1 - config.evaluate.confidence, 12),
        run=str(run),
    )


def closes_of(config: Config, tickers: Iterable[str], start: datetime, end: datetime) -> dict[str, dict[str, float]]:
    """Ticker -> day -> the close at its midnight (UTC), for days from `start` to `end`.

    Only every second, fourth, eighth .. day of the calendar where there are many, so that two ranges share their days.
    A ticker without candles has none.
    """
    pairs = {ticker_of(pair): pair for pair in config.data.pairs}
    days = (end - start) // timedelta(days=1) + 1
    step = 1
    while days / step > CLOSES:
        step *= 2
    found: dict[str, dict[str, float]] = {}
    for ticker in tickers:
        found[ticker] = {}
        try:
            candles = load_candles(config.data.folder, pairs[ticker], config.data.timeframe).frame
        except (KeyError, InputError):  # whoever needs outcomes has been refused already
            continue
        closed = candles.select(pl.col("date") + config.candle, "close").filter(
            pl.col("date").is_between(start, end)
            & (pl.col("date").dt.truncate("1d") == pl.col("date"))
            & (pl.col("date").dt.date().cast(pl.Int32) % step == 0)
        )
        found[ticker] = {f"{time:%Y-%m-%d}": close for time, close in closed.iter_rows()}
    return found


def level_of(spent: TrySpent | None, config: Config) -> Level:
    """What the verdict's bounds may spend; without an outcome nothing is looked at, and it is the first try's level."""
    if spent is None:
        return Level(alpha_for(1, 1 - config.evaluate.confidence))
    return Level(spent.level, one_look=spent.registered is not None)


def spend(attempt: Attempt, config: Config) -> TrySpent | None:
    """Put the look on record before anything is measured; None while no outcome is known.

    Raises:
        InputError: the ledger is broken, or cannot be written.
        UsageError: another program holds it.
    """
    return ledger_of(config).look(attempt) if attempt.known else None


def level_now(rows: pl.DataFrame, config: Config) -> Level:
    """What a verdict on a live journal's rows could spend now; nothing is put on record."""
    models = {role: JudgedModel(name="", adapter_sha256=adapter_of(rows, role)) for role in Role}
    attempt = attempt_of(rows, models, config, source="shadow", run=Path())
    return level_of(ledger_of(config).peek(attempt) if attempt.known else None, config)


def note_of(spent: TrySpent) -> str:
    """What was spent, in a sentence."""
    text = (
        f"This is try {spent.number} on these candles. All tries on them together may err with {spent.budget:.1%}, "
        f"this one with {spent.level:.2%}."
    )
    if spent.try_id.endswith(ANEW):
        text += " A replay of these models was registered, with other rows or for an earlier look than this one."
    if spent.registered is None:
        return text
    return f"{text} It was registered before the replay ({spent.registered}), so its bound is that of one look."
