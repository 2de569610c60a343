"""The stage's work: choose, complete, render, check, write.

`dataset/lora_training.jsonl` holds the messages, `lora_training.meta.parquet` the facts behind them row for row,
`natural_eval.parquet` eval rows at their natural class shares, `manifest.json` how it was made, `card.html` all of it
for a person.
"""

import random
from datetime import datetime
from typing import Any

import polars as pl

from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.audit import describe_dataset
from candletune.dataset.card import write_card
from candletune.dataset.files import CARD, JSONL, MANIFEST, META, NATURAL, to_line
from candletune.dataset.period import find_test_period
from candletune.dataset.rows import add_prompts, complete_rows
from candletune.dataset.sampling import Choice, choose, class_shares, survey
from candletune.decisions import DECISIONS, Decision
from candletune.errors import CheckFailed
from candletune.files import atomic_folder, write_json, write_text
from candletune.hashes import sha256_path
from candletune.prompts.context import context_of, context_sources
from candletune.prompts.grounding import grounded
from candletune.prompts.reasons import write_reason
from candletune.prompts.template import Template, load_template
from candletune.runs import RunFolder
from candletune.splits import TRAIN

MAX_TEMPLATE_SHARE = 0.15
"""No reason template may make up more of a class than this (checked for sets of at least 100 a class)."""


def build(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """Write the dataset folder and return its manifest, but for the long tables.

    Raises:
        InputError: candles, context or template are missing or broken, or a class has no example.
        CheckFailed: a completion claims what is not true of its row.
    """
    template = load_template(config.prompt.template)
    if config.dataset.split == "random":
        reporter.warn(
            "dataset.split=random leaks: outcome windows of eval rows overlap those of train rows, so every eval "
            "figure is too good; use it for comparison only"
        )
    period = find_test_period(config)
    reporter.say(period.describe())
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"test_start": period.start})})
    surveyed = survey(config, reporter)
    choice = choose(config, surveyed, reporter)
    wanted = pl.concat([choice.chosen, choice.natural])
    both = complete_rows(config, wanted).with_columns(pl.col("label", "split").cast(pl.String))
    meta, natural_meta = both.head(len(choice.chosen)), both.tail(len(choice.natural))
    _warn_of_hidden_timeframe(config, template, meta, reporter)
    prompts, completions, names = render_examples(meta, template, config.seed)
    meta = meta.with_columns(reason_template=pl.Series(names, dtype=pl.String))
    manifest = describe(config, template, choice, meta, natural_meta) | {"candles": surveyed.found}
    manifest |= {
        "test_start": period.start.isoformat(),
        "test_start_default": period.by_default,
        "test_share": round(period.share, 4),
        "context_sources": context_sources(map(context_of, meta.filter(split=TRAIN).iter_rows(named=True))),
    }
    manifest["audit"] = describe_dataset(config, meta, prompts)
    for problem in manifest["problems"]:
        reporter.warn(problem)
    with atomic_folder(run.dataset) as folder:
        lines = map(to_line, prompts, completions)
        write_text(folder / JSONL, "\n".join(lines) + "\n")
        meta.write_parquet(folder / META)
        add_prompts(natural_meta, template).write_parquet(folder / NATURAL)
        manifest["jsonl_sha256"] = sha256_path(folder / JSONL)
        write_json(folder / MANIFEST, manifest)
        write_card(folder / CARD, manifest, meta, prompts, completions)
    return {key: value for key, value in manifest.items() if key not in ("candidates", "audit")}


def _warn_of_hidden_timeframe(config: Config, template: Template, meta: pl.DataFrame, reporter: Reporter) -> None:
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


def describe(
    config: Config, template: Template, choice: Choice, meta: pl.DataFrame, natural: pl.DataFrame
) -> dict[str, Any]:
    """The manifest, but for what reading the files and the audit found."""
    times = pl.concat([meta["decision_time"], natural["decision_time"]])
    last: datetime = times.max()  # type: ignore[assignment]
    counts = {label: int((meta["label"] == label).sum()) for label in DECISIONS}
    train = meta.filter(pl.col("split") == TRAIN)
    cells = choice.cells
    template_share = template_shares(meta)
    problems = []
    if min(counts.values()) < config.dataset.per_class:
        problems.append(
            f"{min(counts.values())} examples a class, not {config.dataset.per_class}: the rarest class has no more"
        )
    if template_share > MAX_TEMPLATE_SHARE and min(counts.values()) >= 100:
        problems.append(
            f"one reason template makes up {template_share:.0%} of a class (limit {MAX_TEMPLATE_SHARE:.0%})"
        )
    return {
        "headline": f"{len(meta)} examples ({', '.join(f'{n} {label}' for label, n in counts.items())})",
        "template_sha256": template.sha256,
        "counts": counts,
        "split": {"train": len(train), "eval": len(meta) - len(train), "natural_eval": len(natural)},
        "eval_boundary": None if choice.boundary is None else choice.boundary.isoformat(),
        "first_decision": min(meta["decision_time"]).isoformat(),
        "last_decision": last.isoformat(),
        "train_end": (last + config.horizon).isoformat(),
        "class_prior": class_shares(dict(train.group_by("label").len().iter_rows())),
        "natural_prior": class_shares(_rows_by(cells.filter(pl.col("split") == TRAIN), "label")),
        "candidates": {
            "rows": int(cells["rows"].sum()),
            "purged": int(cells.filter(pl.col("split").is_null())["rows"].sum()),
            "by_asset": _shares(cells, pl.col("asset"), pl.col("key").cast(pl.String)),
            "by_timeframe": _shares(cells, pl.col("timeframe"), pl.col("key").cast(pl.String)),
            "by_month": _shares(cells, pl.col("month"), pl.col("key").dt.strftime("%Y-%m")),
        },
        "largest_template_share": template_share,
        "problems": problems,
        "label": config.labels.model_dump(mode="json"),
        "seed": config.seed,
    }


def template_shares(meta: pl.DataFrame) -> float:
    """The largest share of one reason template among the examples of its class."""
    share = meta.select(pl.len().over("label", "reason_template") / pl.len().over("label")).to_series()
    return float(share.max())  # type: ignore[arg-type]


def _rows_by(cells: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(cells.group_by(column).agg(pl.col("rows").sum()).iter_rows())


def _shares(cells: pl.DataFrame, key: pl.Expr, name: pl.Expr) -> dict[str, dict[str, float]]:
    """Rows and class shares by a key, in its order; `name` turns a key into text."""
    rows = pl.col("rows")
    shares = [(rows.filter(pl.col("label") == label).sum() / rows.sum()).round(4).alias(label) for label in DECISIONS]
    table = cells.group_by(key.alias("key")).agg(rows.sum(), *shares).sort("key").with_columns(key=name)
    return {row.pop("key"): row for row in table.iter_rows(named=True)}
