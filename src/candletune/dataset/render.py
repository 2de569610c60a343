"""Chosen rows as prompts and completions; some of those that train without their headlines."""

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.decisions import Decision
from candletune.errors import CheckFailed
from candletune.fields.registry import context_columns
from candletune.market.sentiment import Sentiment
from candletune.prompts.context import context_of
from candletune.prompts.grounding import grounded
from candletune.prompts.reasons import write_reason
from candletune.prompts.template import Template
from candletune.splits import TRAIN


def warn_of_hidden_timeframe(config: Config, template: Template, meta: pl.DataFrame, reporter: Reporter) -> None:
    """Say so when examples of several timeframes get prompts that do not tell them apart."""
    context = context_of(meta.row(0, named=True))
    if len({template.render(context | {"timeframe": timeframe}) for timeframe in config.timeframes}) < len(
        config.timeframes
    ):
        reporter.warn(
            f"dataset.timeframes: the template never shows {{{{ timeframe }}}}, so the model cannot tell "
            f"{' from '.join(config.timeframes)} decisions; add it to a template of your own (prompt.template)"
        )


def render_examples(rows: pl.DataFrame, template: Template, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Prompts, completions and the names of the reason templates, row for row.

    Raises:
        CheckFailed: a completion claims what is not true of its row.
    """
    prompts, completions, names = [], [], []
    for row in rows.iter_rows(named=True):
        context = context_of(row)
        rng = random.Random(f"{seed}/{row['asset']}/{row['decision_time'].isoformat()}")  # noqa: S311
        label: Decision = row["label"]
        # A reason cites only what the prompt shows: a model asked for more could but invent it.
        visible = template.visible(context)
        name, reason = write_reason(visible, label, rng)
        if not grounded(reason, visible):
            raise CheckFailed(
                f"{row['asset']} {row['decision_time']}: the reason {reason!r} is not true of the row; report this"
            )
        prompts.append(template.render(context))
        completions.append(f"DECISION: {label} - {reason}")
        names.append(name)
    return prompts, completions, names


def prompt_of(row: Mapping[str, Any], template: Template) -> str:
    """The prompt of one market row."""
    return template.render(context_of(row))


def loses_headlines(row: Mapping[str, Any], config: Config) -> bool:
    """Whether a row of the sidecar is trained on without them: by a draw of its own, whatever the other rows are.

    Args:
        row: `asset`, `timeframe`, `decision_time` and `split`.
        config: `headlines.dropout`, and the seed.
    """
    if not config.headlines.dropout or row["split"] != TRAIN:
        return False
    time: datetime = row["decision_time"]
    draw = random.Random(f"{config.seed}/headlines/{row['asset']}/{row['timeframe']}/{time.isoformat()}")  # noqa: S311
    return draw.random() < config.headlines.dropout


def without_headlines(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """The rows as they are where nothing was ever told: everything that is joined from the headlines' file."""
    silent = rows
    for columns in context_columns():
        if columns.source == "headlines":
            joined = columns.join(rows.drop(columns.names), Sentiment(None, None), config.data)
            silent = silent.with_columns(joined[name] for name in columns.names)
    return silent


def drop_headlines(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Market rows with `split`, some of those that train without headlines; the order stays.

    Args:
        rows: of the sidecar.
        config: `headlines.dropout`, and the seed.
    """
    if not config.headlines.dropout:
        return rows
    drawn = ("asset", "timeframe", "decision_time", "split")
    lost = pl.Series([loses_headlines(row, config) for row in rows.select(drawn).iter_rows(named=True)])
    silent = without_headlines(rows, config)
    return rows.select(pl.when(lost).then(silent[name]).otherwise(pl.col(name)).alias(name) for name in rows.columns)
