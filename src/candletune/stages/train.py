"""The `train` stage: dataset and base to a PEFT adapter with its manifest, in this process or in several."""

from collections.abc import Mapping
from pathlib import Path

from candletune.artifacts import TrainSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.files import read_json
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

ADAPTER = "adapter"


def train(config: Config, run: RunFolder, reporter: Reporter) -> TrainSummary:
    """The stage's work, here or in processes of its own; returns the summary."""
    from candletune.stages.train_here import train_here
    from candletune.stages.train_processes import processes_of, train_in_processes

    count = processes_of(config)
    if count == 1:
        return train_here(config, run, reporter)
    reporter.say(f"training in {count} processes")
    train_in_processes(config, run, count)
    return TrainSummary.model_validate(read_json(run.train_summary))


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    from candletune.base.find import base_files, base_gguf

    before = config.train.init_adapter
    going_on = {} if before is None else {"train.init_adapter": before}
    return {"dataset": run.dataset, "base.gguf": base_gguf(config, run)} | base_files(config) | going_on


STAGE = Stage(
    name="train",
    title="Train the adapter",
    tables=("train", "base", "labels"),
    inputs=_inputs,
    outputs=(ADAPTER, "train/summary.json"),
    work=train,
    summary=TrainSummary,
)
