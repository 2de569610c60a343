"""What is written down of a dataset: `dataset/manifest.json`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candletune.artifacts import CandidateRows, DatasetManifest, HeadlineCoverage
from candletune.artifacts.dataset import Candidates, SplitSizes
from candletune.config import Config
from candletune.dataset.coverage import coverage_problem
from candletune.dataset.overlap import describe_dataset
from candletune.dataset.period import TestPeriod
from candletune.dataset.sampling import Sample, Survey, class_shares
from candletune.decisions import DECISIONS
from candletune.prompts.context import context_of, context_sources
from candletune.prompts.ranges import ranges_of
from candletune.prompts.template import Template
from candletune.splits import TRAIN

MAX_TEMPLATE_SHARE = 0.15
"""No reason template may make up more of a class than this (checked for sets of at least 100 a class)."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the build made, and what of.

    Attributes:
        template: of the prompts.
        period: kept out for the replay.
        survey: what reading the candles found.
        sample: what was drawn.
        meta: the sidecar.
        natural: the eval rows at the base rates.
        prompts: row for row of the sidecar.
        completions: their answers.
        headlines: how much of the time they cover; None without.
    """

    template: Template
    period: TestPeriod
    survey: Survey
    sample: Sample
    meta: pl.DataFrame
    natural: pl.DataFrame
    prompts: list[str]
    completions: list[str]
    headlines: HeadlineCoverage | None


def describe(config: Config, made: Made, jsonl_sha256: str) -> DatasetManifest:
    """The manifest of a dataset, whose examples' file has this hash."""
    meta, cells = made.meta, made.sample.cells
    times = pl.concat([meta["decision_time"], made.natural["decision_time"]])
    last: datetime = times.max()  # type: ignore[assignment]
    counts = {label: int((meta["label"] == label).sum()) for label in DECISIONS}
    train = meta.filter(pl.col("split") == TRAIN)
    template_share = template_shares(meta)
    return DatasetManifest(
        headline=f"{len(meta)} examples ({', '.join(f'{n} {label}' for label, n in counts.items())})",
        template_sha256=made.template.sha256,
        counts=counts,
        split=SplitSizes(train=len(train), eval=len(meta) - len(train), natural_eval=len(made.natural)),
        eval_boundary=made.sample.boundary,
        first_decision=min(meta["decision_time"]),
        last_decision=last,
        train_end=last + config.horizon,
        class_prior=class_shares(dict(train.group_by("label").len().iter_rows())),
        natural_prior=class_shares(_rows_by(cells.filter(pl.col("split") == TRAIN), "label")),
        candidates=_candidates(cells),
        largest_template_share=template_share,
        problems=tuple(_problems(config, min(counts.values()), template_share, made.headlines)),
        label=config.labels,
        seed=config.seed,
        candles=made.survey.files,
        test_start=made.period.start,
        test_start_default=made.period.by_default,
        candles_until=made.period.end,
        test_share=round(made.period.share, 4),
        context_sources=context_sources(map(context_of, train.iter_rows(named=True))),
        inputs={
            ticker: ranges_of(map(context_of, rows.iter_rows(named=True)))
            for (ticker,), rows in sorted(train.group_by(pl.col("asset").cast(pl.String)))
        },
        audit=describe_dataset(config, meta, made.prompts),
        jsonl_sha256=jsonl_sha256,
        headlines=made.headlines,
    )


def _problems(config: Config, fewest: int, template_share: float, covered: HeadlineCoverage | None) -> Iterator[str]:
    if fewest < config.dataset.per_class:
        yield f"{fewest} examples a class, not {config.dataset.per_class}: the rarest class has no more"
    if template_share > MAX_TEMPLATE_SHARE and fewest >= 100:
        yield f"one reason template makes up {template_share:.0%} of a class (limit {MAX_TEMPLATE_SHARE:.0%})"
    if covered is not None and (problem := coverage_problem(covered)) is not None:
        yield problem


def _candidates(cells: pl.DataFrame) -> Candidates:
    return Candidates(
        rows=int(cells["rows"].sum()),
        purged=int(cells.filter(pl.col("split").is_null())["rows"].sum()),
        by_asset=_shares(cells, pl.col("asset"), pl.col("key").cast(pl.String)),
        by_timeframe=_shares(cells, pl.col("timeframe"), pl.col("key").cast(pl.String)),
        by_month=_shares(cells, pl.col("month"), pl.col("key").dt.strftime("%Y-%m")),
    )


def template_shares(meta: pl.DataFrame) -> float:
    """The largest share of one reason template among the examples of its class."""
    share = meta.select(pl.len().over("label", "reason_template") / pl.len().over("label")).to_series()
    return float(share.max())  # type: ignore[arg-type]


def _rows_by(cells: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(cells.group_by(column).agg(pl.col("rows").sum()).iter_rows())


def _shares(cells: pl.DataFrame, key: pl.Expr, name: pl.Expr) -> dict[str, CandidateRows]:
    """Rows and class shares by a key, in its order; `name` turns a key into text."""
    rows = pl.col("rows")
    shares = [(rows.filter(pl.col("label") == label).sum() / rows.sum()).round(4).alias(label) for label in DECISIONS]
    table = cells.group_by(key.alias("key")).agg(rows.sum(), *shares).sort("key").with_columns(key=name)
    return {row.pop("key"): CandidateRows(**row) for row in table.iter_rows(named=True)}
