"""Chosen rows as prompts and completions."""

import random

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.decisions import Decision
from candletune.errors import CheckFailed
from candletune.prompts.context import context_of
from candletune.prompts.grounding import grounded
from candletune.prompts.reasons import write_reason
from candletune.prompts.template import Template


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
