"""Which models can be asked, by names that a page may send: every export of a run, its incumbent, its bare base."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from candletune.config import Config
from candletune.decide import Model, bare_base, model_at
from candletune.errors import CandletuneError, InputError
from candletune.evaluation.grounding import rendered_again
from candletune.gguf.catalogue import read_catalogue, versions
from candletune.live.models import configured_incumbent
from candletune.report.text import moment, percent
from candletune.runs import RunFolder

EXAMPLES: Final = 12
"""Decisions of the replay whose facts a page offers."""
DEFAULT: Final = '{\n  "ticker": "BTC",\n  "price_usd": 97000,\n  "rsi": 28.3,\n  "change_24h": -2.1\n}'
"""Facts where a run has none to offer."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that can be ticked.

    Attributes:
        pick: its name within the run: the start of an export's hash, `file`, `incumbent` or `base`.
        label: for people.
        first: the run's latest export, or what stands in for it.
    """

    pick: str
    label: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """Facts to ask about, of a replayed decision: as JSON, where they are from, and what happened then."""

    label: str
    context: str
    outcome: str


def choices_of(config: Config, run: RunFolder) -> list[Choice]:
    """The models of a run, the latest export first.

    Raises:
        InputError: the catalogue of its exports is broken.
    """
    entries = [entry for entry in reversed(read_catalogue(run.gguf)) if (run.gguf / entry.file).is_file()]
    names = versions(run.gguf)
    whole = {"merged": " (merged)", "adapter": ""}
    found = [Choice(entry.sha256[:16], names[entry.sha256] + whole[entry.kind]) for entry in entries]
    if not found and run.adapter_gguf.is_file():
        found.append(Choice("file", run.adapter_gguf.name))
    if config.incumbent.adapter is not None:
        found.append(Choice("incumbent", f"incumbent: {config.incumbent.name or config.incumbent.adapter.stem}"))
    found.append(Choice("base", "the bare base, without an adapter"))
    return [Choice(found[0].pick, found[0].label, first=True), *found[1:]]


def chosen_model(config: Config, run: RunFolder, pick: str) -> Model:
    """The model of a choice.

    Raises:
        InputError: there is none of that name, or its file is gone.
    """
    if pick == "base":
        return bare_base()
    if pick == "incumbent":
        return configured_incumbent(config)
    if pick == "file":
        return model_at(run.adapter_gguf)
    for entry in read_catalogue(run.gguf):
        if len(pick) == 16 and entry.sha256.startswith(pick):
            return model_at(run.gguf / entry.file, versions(run.gguf)[entry.sha256], kind=entry.kind)
    raise InputError(f"{pick[:40]!r}: the run has no such model any more; reload the page")


def examples_of(config: Config, run: RunFolder) -> Sequence[Example]:
    """Decisions of the run's replay, latest first; none where there is no replay or its candles are gone."""
    if not run.scored.is_file():
        return []
    rows = pl.read_parquet(run.scored).filter(pl.col("forward_return").is_not_null()).sort("timestamp").tail(EXAMPLES)
    try:
        rendered = rendered_again(config, rows)
    except CandletuneError:
        rendered = None
    found = []
    for row in reversed(rows.to_dicts()):
        known = (rendered or {}).get(row["prompt_sha256"])
        if known is None:
            continue
        where = f"{row['ticker']} {moment(row['timestamp'])}"
        outcome = f"{percent(row['forward_return'], 2, signed=True)} over the {config.labels.horizon} candles after it"
        found.append(Example(where, context_text(known.context), outcome))
    return found


def context_text(context: Mapping[str, Any]) -> str:
    """Facts as indented JSON, those that are missing left out."""
    told = {key: value for key, value in context.items() if value is not None}
    return json.dumps(told, indent=2, ensure_ascii=False, default=str)
