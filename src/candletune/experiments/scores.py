"""What trains on a trial's dataset, and gives its log loss."""

import math
from collections.abc import Callable

from candletune.artifacts import TrainSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError
from candletune.experiments.boosting import score_boosting
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage


def score_llm(config: Config, run: RunFolder, reporter: Reporter) -> float:
    """Train, and take the log loss on the eval rows from the training's own summary."""
    if config.base.gguf is None:
        run_stage(stage("base"), config, run, reporter)
    summary = run_stage(stage("train"), config, run, reporter).summary_as(TrainSummary)
    found = summary.eval.get("log_loss") if summary.calibration is None else summary.calibration.log_loss
    if not isinstance(found, float) or not math.isfinite(found):
        raise CandletuneError(f"{run.train_summary}: no log loss on the eval rows; raise dataset.natural_eval")
    return found


SCORES: dict[str, Callable[[Config, RunFolder, Reporter], float]] = {"llm": score_llm, "boosting": score_boosting}
"""`sweep.model` -> what trains on a run's dataset and gives the log loss of the decision on its eval rows."""
