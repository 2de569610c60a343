"""The `dataset` stage: market rows and labels to balanced, rendered training examples.

`dataset/lora_training.jsonl` holds the messages, `lora_training.meta.parquet` the facts behind them row for row,
`natural_eval.parquet` eval rows at their natural class shares, `manifest.json` how it was made.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from candletune.config import Config, timeframe_minutes
from candletune.console import Reporter
from candletune.decisions import DECISIONS, Decision
from candletune.errors import InputError
from candletune.labels import label_candles
from candletune.market.candles import Candles, find_candle_file, load_candles
from candletune.market.features import market_rows
from candletune.prompts.context import context_of
from candletune.prompts.reasons import write_completion
from candletune.prompts.template import Template, load_template
from candletune.runs import RunFolder, Stage, atomic_folder, sha256_bytes, sha256_path, write_json
from candletune.splits import EVAL, TRAIN, assign_split

JSONL = "lora_training.jsonl"
META = "lora_training.meta.parquet"
NATURAL = "natural_eval.parquet"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Examples:
    """A dataset read back: prompts and completions in file order, and the sidecar row for row."""

    prompts: list[str]
    completions: list[str]
    meta: pl.DataFrame


def load_all(config: Config) -> list[Candles]:
    """Every configured pair's candles.

    Raises:
        InputError: a file is missing or broken, or two pairs share a ticker.
    """
    loaded = [load_candles(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs]
    tickers = [candles.ticker for candles in loaded]
    if doubled := {ticker for ticker in tickers if tickers.count(ticker) > 1}:
        raise InputError(f"data.pairs: {', '.join(sorted(doubled))} appears in two pairs; keep one of them")
    return loaded


def decision_rows(config: Config, *, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
    """What was knowable at every decision time in [start, end), rendered; never looks into the future.

    Returns:
        Market rows of all pairs by decision time and asset, with `prompt` and `prompt_sha256`.
    """
    rows = pl.concat([market_rows(candles, config.data) for candles in load_all(config)])
    if start is not None:
        rows = rows.filter(pl.col("decision_time") >= start)
    if end is not None:
        rows = rows.filter(pl.col("decision_time") < end)
    return add_prompts(rows.sort("decision_time", "asset"), load_template(config.prompt.template))


def add_prompts(rows: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Add `prompt` and `prompt_sha256` to market rows."""
    prompts = [template.render(context_of(row)) for row in rows.iter_rows(named=True)]
    hashes = [sha256_bytes(prompt.encode()) for prompt in prompts]
    return rows.with_columns(
        prompt=pl.Series(prompts, dtype=pl.String), prompt_sha256=pl.Series(hashes, dtype=pl.String)
    )


def read_examples(run: RunFolder) -> Examples:
    """Read the dataset of a run.

    Raises:
        InputError: it is missing, a line does not hold to the contract, or the sidecar has another length.
    """
    path = run.file("dataset", JSONL)
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `candletune dataset` first")
    prompts, completions = [], []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                user, assistant = json.loads(line)["messages"]
                prompts.append(user["content"])
                completions.append(assistant["content"])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path}: line {number} is not a user and an assistant message; rebuild it") from None
    meta = pl.read_parquet(run.file("dataset", META))
    if len(meta) != len(prompts):
        raise InputError(f"{path}: {len(prompts)} lines but {len(meta)} sidecar rows; run `candletune dataset --force`")
    return Examples(prompts, completions, meta)


def labelled_rows(config: Config, loaded: list[Candles]) -> pl.DataFrame:
    """Market rows of all pairs joined with their labels; rows without a label are left out."""
    minutes = timeframe_minutes(config.data.timeframe)
    frames = []
    for candles in loaded:
        labels = label_candles(candles.frame, config.labels, minutes)
        frames.append(market_rows(candles, config.data).join(labels, on="decision_time", how="inner"))
    rows = pl.concat(frames).drop_nulls("label").sort("decision_time", "asset")
    if config.labels.shuffle:
        order = np.random.default_rng(config.seed).permutation(len(rows))
        rows = rows.with_columns(rows["label"].gather(order), rows["forward_return"].gather(order))
    return rows


def candidates(config: Config, rows: pl.DataFrame) -> tuple[pl.DataFrame, datetime | None]:
    """Rows that may be trained on, with `split`: before `test_start` by the whole horizon and embargo, split by time."""
    minutes = timeframe_minutes(config.data.timeframe)
    horizon = timedelta(minutes=minutes * config.labels.horizon)
    embargo = timedelta(minutes=minutes * config.dataset.embargo)
    if config.dataset.test_start is not None:
        rows = rows.filter(pl.col("decision_time") < config.dataset.test_start - horizon - embargo)
    if config.dataset.train_start is not None:
        rows = rows.filter(pl.col("decision_time") >= config.dataset.train_start)
    if rows.is_empty():
        raise InputError(
            f"{config.data.folder}: no labelled candles between dataset.train_start and dataset.test_start; widen the range"
        )
    return assign_split(rows, config.dataset, horizon=horizon, embargo=embargo, seed=config.seed)


def balance(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Equal counts of each class in each split, spread evenly over assets and months.

    Rows of one class, asset and month are shuffled and ranked; taking the lowest ranks first fills every month and
    asset before any gets a second row. Deterministic from the seed.

    Raises:
        InputError: a class has no row at all.
    """
    order = np.random.default_rng(config.seed).permutation(len(rows))
    cell = ["split", "label", "asset", pl.col("decision_time").dt.truncate("1mo")]
    ranked = rows.with_columns(_key=pl.Series(order)).with_columns(_rank=pl.col("_key").rank("ordinal").over(cell))
    total = config.dataset.per_class
    targets = {EVAL: round(total * config.dataset.eval_fraction)}
    targets[TRAIN] = total - targets[EVAL]
    chosen = []
    for split, target in targets.items():
        of_split = ranked.filter(pl.col("split") == split)
        counts = {label: int((of_split["label"] == label).sum()) for label in DECISIONS}
        take = min(target, *counts.values())
        if take == 0 and split == TRAIN:
            none = ", ".join(label for label, count in counts.items() if not count)
            raise InputError(f"dataset: no {none} in the train split; use more candles or a lower labels.threshold")
        chosen += [
            of_split.filter(pl.col("label") == label).sort("_rank", "_key").head(take) for label in DECISIONS
        ]
    return pl.concat(chosen).drop("_key", "_rank").sort("decision_time", "asset")


def natural_sample(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Eval rows drawn without regard to class, so that class shares are those of life."""
    eval_rows = rows.filter(pl.col("split") == EVAL)
    count = min(config.dataset.natural_eval, len(eval_rows))
    picked = np.sort(np.random.default_rng(config.seed + 1).choice(len(eval_rows), count, replace=False))
    return eval_rows[picked.tolist()]


def class_shares(labels: pl.Series) -> dict[str, float]:
    """Share of each class."""
    return {label: float((labels == label).mean() or 0.0) for label in DECISIONS}


def render_examples(rows: pl.DataFrame, template: Template, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Prompts, completions and the names of the reason templates, row for row."""
    prompts, completions, names = [], [], []
    for row in rows.iter_rows(named=True):
        context = context_of(row)
        rng = random.Random(f"{seed}/{row['asset']}/{row['decision_time'].isoformat()}")  # noqa: S311
        label: Decision = row["label"]
        name, completion = write_completion(context, label, rng)
        prompts.append(template.render(context))
        completions.append(completion)
        names.append(name)
    return prompts, completions, names


def build(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work: write the dataset folder and return its manifest."""
    template = load_template(config.prompt.template)
    loaded = load_all(config)
    for candles in loaded:
        if mended := candles.report["reordered"] + candles.report["duplicates"]:
            reporter.warn(f"{candles.path}: {mended} rows were out of order or doubled; mended in memory")
    if config.dataset.split == "random":
        reporter.warn("dataset.split=random lets overlapping 12-hour outcomes leak from eval into train; for comparison only")
    rows, boundary = candidates(config, labelled_rows(config, loaded))
    chosen = balance(rows, config)
    natural = natural_sample(rows, config)
    prompts, completions, names = render_examples(chosen, template, config.seed)
    manifest = _manifest(config, template, loaded, rows, chosen, boundary)
    with atomic_folder(run.file("dataset")) as folder:
        lines = (
            json.dumps(
                {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]},
                ensure_ascii=False,
            )
            for prompt, completion in zip(prompts, completions, strict=True)
        )
        (folder / JSONL).write_text("\n".join(lines) + "\n", encoding="utf-8")
        chosen.with_columns(reason_template=pl.Series(names)).write_parquet(folder / META)
        add_prompts(natural, template).write_parquet(folder / NATURAL)
        manifest["jsonl_sha256"] = sha256_path(folder / JSONL)
        write_json(folder / MANIFEST, manifest)
    return manifest


def _manifest(
    config: Config,
    template: Template,
    loaded: list[Candles],
    rows: pl.DataFrame,
    chosen: pl.DataFrame,
    boundary: datetime | None,
) -> dict[str, Any]:
    minutes = timeframe_minutes(config.data.timeframe)
    last: datetime = chosen["decision_time"].max()  # type: ignore[assignment]
    seen_until = last + timedelta(minutes=minutes * config.labels.horizon)
    counts = {label: int((chosen["label"] == label).sum()) for label in DECISIONS}
    train = chosen.filter(pl.col("split") == TRAIN)
    return {
        "headline": f"{len(chosen)} examples ({', '.join(f'{n} {label}' for label, n in counts.items())})",
        "template_sha256": template.sha256,
        "counts": counts,
        "split": {"train": len(train), "eval": len(chosen) - len(train)},
        "eval_boundary": None if boundary is None else boundary.isoformat(),
        "first_decision": _iso(chosen["decision_time"].min()),
        "last_decision": last.isoformat(),
        "train_end": seen_until.isoformat(),
        "class_prior": class_shares(train["label"]),
        "natural_prior": class_shares(rows.filter(pl.col("split") == TRAIN)["label"]),
        "label": config.labels.model_dump(mode="json"),
        "candles": {candles.ticker: {"file": candles.path.name, **candles.report} for candles in loaded},
        "seed": config.seed,
    }


def _iso(value: Any) -> str:
    text: str = value.isoformat()
    return text


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    found = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    optional = {
        "data.fear_greed": config.data.fear_greed,
        "data.headlines": config.data.headlines,
        "prompt.template": config.prompt.template,
    }
    return found | {name: path for name, path in optional.items() if path is not None}


STAGE = Stage(
    name="dataset",
    title="Build the dataset",
    tables=("data", "labels", "dataset", "prompt"),
    inputs=_inputs,
    outputs=("dataset",),
    work=build,
)
