"""The pipeline: stages in order, each skipped when it is up to date."""

from collections.abc import Sequence

from candletune.artifacts import VerifySummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CheckFailed
from candletune.runs import RunFolder
from candletune.stages import STAGES, stage
from candletune.stages.register import register
from candletune.stages.runner import StageOutcome, run_stage


def prepare(config: Config, run: RunFolder, reporter: Reporter) -> Config:
    """Write simulated candles when the configuration asks for them, and read these (see `market.simulated.reading`)."""
    if not config.simulate.enabled:
        return config
    from candletune.market.simulated import ensure_simulated, reading

    return reading(config, ensure_simulated(config, run, reporter))


def show(outcome: StageOutcome, run: RunFolder, reporter: Reporter) -> None:
    """One line a stage, from its summary's `headline`."""
    state = "up to date" if outcome.skipped else f"{outcome.seconds:.1f} s"
    reporter.say(f"{outcome.name:<9} {outcome.summary.headline or 'done'}  [{state}]")


def run_pipeline(
    config: Config,
    run: RunFolder,
    reporter: Reporter,
    *,
    force: bool = False,
    without: Sequence[str] = (),
    registered: bool = False,
) -> dict[str, StageOutcome]:
    """Run every stage in order; the caller holds the run folder's lock.

    What is judged is the replay, even where `evaluate.journal` names a shadow test's journal for `evaluate`.

    Args:
        config: the whole configuration.
        run: where the stages work.
        reporter: where they report to.
        force: run them up to date or not.
        without: stages that are left as they are.
        registered: put the replay on record before it begins, so that its verdict may use the bound of one look.
    """
    config = prepare(config, run, reporter)
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": None})})
    outcomes: dict[str, StageOutcome] = {}
    for name in STAGES:
        if name in without:
            continue
        if registered and name == "replay":
            register(config, run, reporter)
        outcome = run_stage(stage(name), config, run, reporter, force=force)
        show(outcome, run, reporter)
        outcomes[outcome.name] = outcome
        refuse_unverified(outcome, run)
    return outcomes


def refuse_unverified(outcome: StageOutcome, run: RunFolder) -> None:
    """Stop behind a verification that failed.

    Raises:
        CheckFailed: it did.
    """
    if isinstance(outcome.summary, VerifySummary) and not outcome.summary.passed:
        advice = outcome.summary.remedy or "export again"
        raise CheckFailed(f"{run.certificate}: verification failed, so nothing is replayed; {advice}")
