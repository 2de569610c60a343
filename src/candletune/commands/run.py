"""`run`: the whole pipeline, skipping what is up to date."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config, without_preflight
from candletune.commands.result import run_result, say_result, with_json


@click.command(epilog="Example: candletune run --config examples/btc_eth_tiny.toml --set data.folder=~/candles")
@with_config
@with_json
@click.option("--force", is_flag=True, help="Run every stage, up to date or not.")
@without_preflight
@click.option(
    "--register",
    "registered",
    is_flag=True,
    help="Put the replay on record before it begins; its verdict is one look.",
)
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
def run(
    config_path: Path,
    assignments: tuple[str, ...],
    force: bool,
    no_preflight: bool,
    registered: bool,
    require_promote: bool,
) -> int:
    """Do dataset, train, export, verify, replay, evaluate and report, in order.

    What would end a later stage is looked for first and refused at once. A stage whose
    inputs and settings have not changed is skipped; an interrupted run goes on where it was.
    """
    from candletune.artifacts import EvaluateSummary
    from candletune.preflight import pending_stages, preflight
    from candletune.preflight.estimate import say_estimates
    from candletune.stages.pipeline import prepare, run_pipeline

    session = open_session(config_path, assignments)
    folder, reporter = session.run, session.reporter
    with folder.lock():
        config = prepare(session.config, folder, reporter)
        if not no_preflight:
            pending = pending_stages(config, folder, force=force)
            preflight(config, folder, reporter, pending)
            say_estimates(config, folder, reporter, pending)
        outcomes = run_pipeline(config, folder, reporter, force=force, registered=registered)
    verdict = outcomes["evaluate"].summary_as(EvaluateSummary).verdict
    reporter.say(f"verdict: {verdict}")
    reporter.say(f"report: {folder.report}")
    say_result(**run_result(outcomes, folder.report))
    return 4 if require_promote and verdict != "promote" else 0
