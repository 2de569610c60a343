"""`retrain`: train again when enough new candles have come; made to be started by a scheduler."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import CANDLES, RUN, open_session, with_config
from candletune.commands.result import run_result, say_result, with_json

if TYPE_CHECKING:
    from candletune.config import Config


@click.command(epilog="Example: candletune retrain --config ~/trader/candletune.toml   (examples/schedule has timers)")
@with_config
@with_json
@click.option("--force", is_flag=True, help="Train again however few candles are new.")
@click.option("--no-preflight", is_flag=True, help="Begin at once, without looking for what would fail later.")
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
def retrain(
    config_path: Path, assignments: tuple[str, ...], force: bool, no_preflight: bool, require_promote: bool
) -> int:
    """Train on new candles with the same settings, and judge the result against the adapter that acts now.

    Does nothing, with exit code 0, when fewer candles than retrain.min_new_candles are new or another candletune
    process works in the run folder. Never promotes; an interrupted retraining goes on at the next start.
    """
    from candletune.artifacts import EvaluateSummary
    from candletune.preflight import preflight
    from candletune.runs import RunLocked
    from candletune.stages.retrain import retrain as train_again

    session = open_session(config_path, assignments, needs=(RUN, CANDLES))
    run, reporter = session.run, session.reporter

    def look(config: "Config", stages: list[str]) -> None:
        if not no_preflight:
            preflight(config, run, reporter, stages)

    try:
        with run.lock():
            outcomes = train_again(session.config, run, reporter, force=force, before=look)
    except RunLocked:
        reporter.say(f"{run.path}: another candletune process works in this run folder; nothing was done")
        outcomes = None
    if outcomes is None:
        say_result(verdict=None, stages={})
        return 0
    summary = outcomes["evaluate"].summary_as(EvaluateSummary)
    verdict = summary.verdict
    reporter.say(f"verdict: {verdict} ({summary.reason})")
    reporter.say(f"report: {run.report}")
    if verdict == "promote":
        reporter.say("nothing was promoted; `candletune promote` makes this adapter the active one")
    say_result(**run_result(outcomes, run.report))
    return 4 if require_promote and verdict != "promote" else 0
