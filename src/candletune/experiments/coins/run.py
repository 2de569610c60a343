"""Train on all coins and on all but each, and ask about each."""

from collections.abc import Callable

from candletune.artifacts.coins import Coins
from candletune.config import Config
from candletune.console import Reporter
from candletune.engines import base_gguf
from candletune.experiments.coins.folds import Stands, plan_folds, same_test
from candletune.experiments.coins.results import results_of
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage


def leave_one_out(
    config: Config,
    run: RunFolder,
    reporter: Reporter,
    model: Stands,
    *,
    before: Callable[[Config], None] = lambda config: None,
) -> Coins:
    """Leave each coin out in turn; whatever is up to date is left as it is.

    Nothing is judged or promoted, and no try is spent: these are figures about a way of training.

    Args:
        config: with `data.folder` at the candles, and all coins.
        run: the run folder; the caller holds its lock.
        reporter: where to report to.
        model: `boosting` stands in for the language model, in seconds a coin.
        before: called with the configuration of the training on all coins, before anything is written.

    Raises:
        UsageError: fewer than two coins.
        CandletuneError: a stage was refused.
    """
    folds = plan_folds(config, run.coins / "folds", model, None)
    before(folds[0].config)
    if model == "llm":
        run_stage(stage("base"), config, run, reporter)
        folds = plan_folds(config, run.coins / "folds", model, base_gguf(config, run))
    reporter.say(f"{len(folds)} trainings: on all {len(folds) - 1} coins, and without each")
    folds[0].train(reporter)
    folds = same_test(folds)
    for fold in folds[1:]:
        reporter.say(f"without {fold.name}")
        fold.train(reporter)
    for fold in folds:
        fold.replay(reporter)
    found = results_of(folds, config)
    found.write(run.coins_record)
    return found
