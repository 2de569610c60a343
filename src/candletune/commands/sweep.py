"""`sweep`: settings tried on the eval split."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config


@click.command(epilog="Example: candletune sweep examples/iteration.toml --set data.folder=~/candles --judge")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@with_config
@click.option("--model", type=click.Choice(["llm", "boosting"]), help="What is trained; none: sweep.model.")
@click.option("--ray", metavar="ADDRESS", help="Do trials on a Ray cluster: `auto`, or an address (extra `ray`).")
@click.option("--judge", is_flag=True, help="Then run the winner's replay, and give its verdict.")
@click.option("--require-promote", is_flag=True, help="With --judge: exit code 4 unless the verdict is promote.")
def sweep(
    file: Path | None,
    config_path: Path,
    assignments: tuple[str, ...],
    model: str | None,
    ray: str | None,
    judge: bool,
    require_promote: bool,
) -> int:
    """Try the settings of the [sweep] table, and name the one that does best on the eval split.

    FILE is a configuration with that table (as --config). Every combination is trained in a run folder of its own below
    the run folder; none of them looks at the replay range. A sweep that was cut off goes on where it was, trials that
    failed are tried again, and trials are added when values are. The winner's configuration is written beside them.
    """
    from candletune.experiments.sweep import run_sweep
    from candletune.experiments.sweep_table import sweep_text
    from candletune.experiments.winner import judge_winner, next_command
    from candletune.runs import RunFolder
    from candletune.stages.pipeline import prepare

    path = file or config_path
    given = {"sweep.model": model, "sweep.ray": ray}
    overrides = {key: value for key, value in given.items() if value is not None}
    session = open_session(path, assignments, overrides=overrides)
    run, reporter = session.run, session.reporter
    with run.lock():
        config = prepare(session.config, run, reporter)
        found = run_sweep(config, run, reporter, folder=path.parent.resolve())
        click.echo(sweep_text(found))
        home = RunFolder(run.sweep)
        if not judge:
            reporter.say(f"winner: {found.winner}; next: {next_command(found, home, path)}")
            return 0
        verdict = judge_winner(found, home, reporter).verdict
    reporter.say(f"verdict: {verdict}")
    return 4 if require_promote and verdict != "promote" else 0
