"""From the configuration to the folds: the periods, and the base GGUF that all of them share."""

from collections.abc import Callable

from candletune.config import Config
from candletune.console import Reporter
from candletune.engines import base_gguf
from candletune.errors import UsageError
from candletune.experiments.walk.folds import Fold, plan_folds
from candletune.experiments.walk.periods import find_periods
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import show
from candletune.stages.runner import run_stage


def make_plan(config: Config, run: RunFolder, reporter: Reporter, before: Callable[[Config], None]) -> tuple[Fold, ...]:
    """The folds, and the base they share, written once.

    Args:
        config: with `data.folder` at the candles.
        run: the run folder, in which the walk has a folder of its own; the caller holds its lock.
        reporter: told the periods.
        before: called with the first period's configuration, before anything is written.

    Raises:
        UsageError: the settings do not allow a walk.
        InputError: candles or base are missing or broken.
    """
    _refuse(config)
    periods = find_periods(config)
    seen = "growing" if config.walk.window == "growing" else f"the {config.walk.window} before each"
    reporter.say(
        f"{len(periods)} periods of {config.walk.every}, {periods[0].start:%Y-%m-%d} to {periods[-1].end:%Y-%m-%d}, "
        f"trained on: {seen}"
    )
    first = config.dataset.model_copy(update={"test_start": periods[0].start, "train_start": periods[0].train_start})
    before(config.model_copy(update={"dataset": first}))
    if config.walk.model == "boosting":
        return plan_folds(config, run.walk, periods, None)
    show(run_stage(stage("base"), config, run, reporter), run, reporter)
    return plan_folds(config, run.walk, periods, base_gguf(config, run))


def _refuse(config: Config) -> None:
    if config.walk.model == "llm" and config.walk.incumbent != "fixed" and config.export.kind == "merged":
        raise UsageError(
            f"walk.incumbent: {config.walk.incumbent} loads another period's adapter over the base, and "
            "export.kind=merged writes none; set export.kind to adapter"
        )
    if config.walk.warm_start and config.walk.model == "boosting":
        raise UsageError("walk.warm_start: gradient boosting has no adapter to go on from; leave it out")
    if config.walk.ray and config.replay.ray:
        raise UsageError("replay.ray: walk.ray gives each worker a whole period already; set one of both")
    if config.replay.force:
        raise UsageError("replay.force: a walk replays nothing that a training saw; leave it out")
