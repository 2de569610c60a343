"""`run`: the whole pipeline, skipping what is up to date."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config


@click.command(epilog="Example: candletune run --config examples/btc_eth_tiny.toml --set data.folder=~/candles")
@with_config
@click.option("--force", is_flag=True, help="Run every stage, up to date or not.")
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
def run(config_path: Path, assignments: tuple[str, ...], force: bool, require_promote: bool) -> int:
    """Do dataset, train, export, verify, replay, evaluate and report, in order.

    A stage whose inputs and settings have not changed is skipped; an interrupted run goes on where it was.
    """
    from candletune.stages.pipeline import run_pipeline

    session = open_session(config_path, assignments)
    folder, reporter = session.run, session.reporter
    with folder.lock():
        outcomes = run_pipeline(session.config, folder, reporter, force=force)
    verdict = outcomes["evaluate"].summary["verdict"]
    reporter.say(f"verdict: {verdict}")
    reporter.say(f"report: {folder.report}")
    return 4 if require_promote and verdict != "promote" else 0
