"""The winner of a sweep: named and put on record, then before the replay range as any other candidate."""

from datetime import UTC, datetime
from pathlib import Path

from candletune.artifacts import EvaluateSummary
from candletune.artifacts.ledger import SweepLine
from candletune.artifacts.sweep import Sweep
from candletune.config import Config, load_config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.evaluation.tries import ledger_of
from candletune.experiments.boosting import judge_boosting
from candletune.experiments.space import trial_config, trial_toml
from candletune.files import write_text
from candletune.runs import RunFolder
from candletune.stages.pipeline import run_pipeline


def judge_winner(sweep: Sweep, home: RunFolder, reporter: Reporter) -> EvaluateSummary:
    """Export, certify, replay and evaluate the winner in its own run folder.

    Args:
        sweep: with a winner.
        home: the sweep's folder.
        reporter: where to report to.

    Returns:
        Its verdict, which the ledger has counted as one try.

    Raises:
        InputError: there is no winner.
        CheckFailed: it is not certified.
    """
    if sweep.winner is None:
        raise InputError(f"{home.sweep_trials}: no winner; run `candletune sweep` to its end first")
    config = load_config(home.sweep_winner)
    run = RunFolder(config.run.folder)
    with run.lock():
        if sweep.model == "boosting":
            return judge_boosting(config, run, reporter)
        outcomes = run_pipeline(config, run, reporter)
    return outcomes["evaluate"].summary_as(EvaluateSummary)


def next_command(sweep: Sweep, home: RunFolder, file: Path) -> str:
    """What gives the winner's verdict."""
    if sweep.model == "boosting":
        return f"candletune sweep {file} --model boosting --judge"
    return f"candletune run --config {home.sweep_winner}"


def name_winner(found: Sweep, before: Sweep | None, config: Config, home: RunFolder, folder: Path) -> Sweep:
    """Name the winner, put on record where it comes from, and write its configuration."""
    best = found.best()
    if best is None:
        reason = next((trial.reason for trial in found.trials if trial.reason), "every trial was pruned")
        raise InputError(f"{home.sweep_trials}: no trial finished; the first reason: {reason}")
    named = found.model_copy(update={"winner": best.name, "named": datetime.now(UTC).isoformat(timespec="seconds")})
    if before is None or (before.winner, before.trials) != (named.winner, named.trials):
        ledger_of(config).chosen(_provenance(named, config, home))
    named.write(home.sweep_trials)
    write_text(home.sweep_winner, trial_toml(trial_config(config, best.settings, home.file(best.name), folder)))
    return named


def _provenance(named: Sweep, config: Config, home: RunFolder) -> SweepLine:
    return SweepLine(
        at=named.named,
        sweep=str(home.path),
        winner=named.winner or "",
        trials=len(named.trials),
        finished=named.count("finished"),
        pruned=named.count("pruned"),
        failed=named.count("failed"),
        settings=config.sweep.model_dump(mode="json")["settings"],
    )
