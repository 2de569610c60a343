"""`run`: the whole pipeline, skipping what is up to date."""

from pathlib import Path

import click

from candletune.commands import with_config


@click.command(epilog="Example: candletune run --config examples/btc_eth_tiny.toml --set data.folder=~/candles")
@with_config
@click.option("--force", is_flag=True, help="Run every stage, up to date or not.")
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
def run(config_path: Path, assignments: tuple[str, ...], force: bool, require_promote: bool) -> int:
    """Do dataset, train, export, verify, replay, evaluate and report, in order.

    A stage whose inputs and settings have not changed is skipped; an interrupted run goes on where it was.
    """
    from candletune.config import load_config
    from candletune.console import RichReporter
    from candletune.runs import RunFolder
    from candletune.stages.pipeline import run_pipeline

    config = load_config(config_path, assignments)
    folder = RunFolder(config.run.folder)
    reporter = RichReporter()
    with folder.lock():
        outcomes = run_pipeline(config, folder, reporter, force=force)
    verdict = outcomes["evaluate"].summary["verdict"]
    reporter.say(f"verdict: {verdict}")
    reporter.say(f"report: {folder.report}")
    return 4 if require_promote and verdict != "promote" else 0
