"""What a promoted model was certified at, kept beside it: the watch over it compares with nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl

from candletune.artifacts import AdapterRecord, DatasetManifest, DriftLevel, DriftReference, FieldRange
from candletune.config import Config
from candletune.dataset import decision_rows
from candletune.decide import Model
from candletune.errors import CandletuneError
from candletune.evaluation.drift import level_of, series_of
from candletune.evaluation.times import panel_of
from candletune.market.simulated import reading
from candletune.prompts.context import context_of
from candletune.prompts.ranges import outside, silent
from candletune.runs import RunFolder

JUDGED_INPUTS = timedelta(days=90)
"""The last so many days of the judged rows say how often its inputs lay outside the training's range already."""


def reference_path(model: Path) -> Path:
    """Of a promoted model's kept copy."""
    return model.with_suffix(".drift.json")


def keep_reference(config: Config, run: RunFolder, promoted: Model, replaced: Model) -> None:
    """Write what `promoted` was certified at beside its kept copy.

    What cannot be found is left out: a promotion never fails for it, and the watch says what it does not watch.
    """
    if promoted.path is None or promoted.sha256 is None:
        return
    config = with_candles(config, run)
    rows = _judged(run, promoted, replaced)
    inputs = _trained_inputs(run)
    reference = DriftReference(
        adapter_sha256=promoted.sha256,
        replaced_sha256=replaced.sha256,
        levels=_levels(rows, config),
        inputs=inputs,
        allowed=_allowed(rows, config, inputs),
    )
    try:
        reference.write(reference_path(promoted.path))
    except OSError:
        return


def with_candles(config: Config, run: RunFolder) -> Config:
    """The configuration that reads the simulated candles, when they are asked for."""
    return reading(config, run.candles) if config.simulate.enabled else config


def _judged(run: RunFolder, promoted: Model, replaced: Model) -> pl.DataFrame:
    """The longest evaluation of these two on rows that no training saw; empty where there is none."""
    found = pl.DataFrame()
    for path in (run.scored, run.shadow_scored):
        try:
            rows = pl.read_parquet(path)
            rows = rows.filter(
                (pl.col("shadow_status") == "ok")
                & (pl.col("shadow_adapter") == promoted.sha256)
                & pl.col("active_adapter").eq_missing(pl.lit(replaced.sha256, dtype=pl.String))
                & ~pl.col("forced")
            )
        except (OSError, pl.exceptions.PolarsError):
            continue
        found = rows if len(rows) > len(found) else found
    return found


def _levels(rows: pl.DataFrame, config: Config) -> dict[str, DriftLevel]:
    if rows.is_empty():
        return {}
    levels: dict[str, DriftLevel] = {}
    for name, series in series_of(panel_of(rows, config.horizon), "shadow", config.evaluate.move).items():
        if (level := level_of(series)) is not None:
            levels[name] = level
    return levels


def _trained_inputs(run: RunFolder) -> Mapping[str, Mapping[str, FieldRange]]:
    """What the adapter's own dataset says; nothing where the dataset was made again since."""
    try:
        manifest = DatasetManifest.read_if_there(run.dataset_manifest)
        record = AdapterRecord.read_if_there(run.adapter / AdapterRecord.FILE)
    except CandletuneError:
        return {}
    if manifest is None or (record is not None and record.dataset_sha256 not in (None, manifest.jsonl_sha256)):
        return {}
    return manifest.inputs


def _allowed(
    rows: pl.DataFrame, config: Config, inputs: Mapping[str, Mapping[str, FieldRange]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Shares of the judged rows that lay outside the training's range, and that said nothing."""
    if rows.is_empty() or not inputs:
        return {}
    last = rows["timestamp"].to_list()[-1]
    first = max(rows["timestamp"].to_list()[0], last - JUDGED_INPUTS)
    try:
        judged = decision_rows(config, start=first, end=last + config.candle)
    except (CandletuneError, OSError):
        return {}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for ticker, ranges in inputs.items():
        contexts = [context_of(row) for row in judged.filter(pl.col("asset") == ticker).iter_rows(named=True)]
        if contexts:
            found[ticker] = {
                name: (
                    sum(outside(trained, context.get(name)) for context in contexts) / len(contexts),
                    sum(silent(name, context.get(name)) for context in contexts) / len(contexts),
                )
                for name, trained in ranges.items()
            }
    return found
