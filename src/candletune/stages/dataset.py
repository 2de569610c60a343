"""The `dataset` stage: candles to labelled, balanced, rendered training examples."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from candletune.artifacts import DatasetManifest, DatasetSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.dataset.build import build
from candletune.market.candles import find_candle_file, has_candle_file
from candletune.prompts.template import packaged_path
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    inputs = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    for pair, timeframe in product(config.data.pairs, config.timeframes[1:]):
        if has_candle_file(config.data.folder, pair, timeframe):
            inputs[f"{pair} {timeframe}"] = find_candle_file(config.data.folder, pair, timeframe)
    optional = {
        "data.fear_greed": config.data.fear_greed,
        "data.headlines": config.data.headlines,
    }
    # The packaged template too: with an edited one the dataset is another.
    inputs["prompt.template"] = config.prompt.template or packaged_path()
    return inputs | {name: path for name, path in optional.items() if path is not None}


def _work(config: Config, run: RunFolder, reporter: Reporter) -> DatasetSummary:
    build(config, run, reporter)
    manifest = DatasetManifest.read(run.dataset_manifest)
    return DatasetSummary.model_validate(manifest.model_dump(), extra="ignore")


STAGE = Stage(
    name="dataset",
    title="Build the dataset",
    tables=("data", "headlines", "labels", "dataset", "prompt"),
    inputs=_inputs,
    outputs=("dataset",),
    work=_work,
    summary=DatasetSummary,
)
