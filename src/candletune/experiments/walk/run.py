"""The walk: plan the periods, train before each, register, replay each, judge all of them at once."""

from collections.abc import Callable

from candletune.artifacts import EvaluateSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.experiments.walk.on_ray import spreading
from candletune.experiments.walk.parts import do_part
from candletune.experiments.walk.plan import make_plan
from candletune.experiments.walk.record import keep_record, show_periods
from candletune.experiments.walk.register import register_walk
from candletune.experiments.walk.stages import evaluate_stage, report_stage
from candletune.runs import RunFolder
from candletune.stages.pipeline import show
from candletune.stages.runner import run_stage


def walk(
    config: Config,
    run: RunFolder,
    reporter: Reporter,
    *,
    before: Callable[[Config], None] = lambda config: None,
) -> EvaluateSummary:
    """Walk; whatever is up to date is left as it is, so a walk that was cut off goes on where it was.

    Everything is trained before anything is replayed: then the whole walk can be put on record before its first answer,
    and its verdict may use the bound of one look.

    Args:
        config: with `data.folder` at the simulated candles, when those are asked for.
        run: the run folder; the caller holds its lock.
        reporter: where to report to.
        before: called with the first period's configuration, before anything is written.

    Returns:
        The verdict over all periods.

    Raises:
        FoldsFailed: at least one period failed, so there is no verdict.
    """
    folds = make_plan(config, run, reporter, before)
    own = RunFolder(run.walk)
    with own.lock():
        own_config = config.model_copy(
            update={
                "run": config.run.model_copy(update={"folder": own.path}),
                # What is judged is the walk, even where the configuration names a shadow test's journal for `evaluate`.
                "evaluate": config.evaluate.model_copy(update={"journal": None}),
            }
        )
        keep_record(folds, config, own, {})
        with spreading(config, own, reporter) as spread:
            do_part(folds, "train", config, own, reporter, spread)
            register_walk(folds, own_config, own, reporter)
            do_part(folds, "replay", config, own, reporter, spread)
        judged = run_stage(evaluate_stage(folds), own_config, own, reporter)
        show(judged, own, reporter)
        show_periods(keep_record(folds, config, own, {}, judged=True), reporter)
        show(run_stage(report_stage(), own_config, own, reporter), own, reporter)
    return judged.summary_as(EvaluateSummary)
