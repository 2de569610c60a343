"""`walk`: a training before each period of the history, and one verdict over all periods."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import open_session, with_config, without_preflight

if TYPE_CHECKING:
    from candletune.config import Config


@click.command(epilog="Example: candletune walk --model boosting --set walk.every=3mo --set walk.window=12mo")
@with_config
@click.option(
    "--model", type=click.Choice(["llm", "boosting"]), help="Set walk.model: boosting stands in for the language model."
)
@click.option("--ray", metavar="ADDRESS", help="Do periods on a Ray cluster: `auto`, or an address (extra `ray`).")
@without_preflight
@click.option("--require-promote", is_flag=True, help="Exit code 4 unless the verdict is promote.")
def walk(
    config_path: Path,
    assignments: tuple[str, ...],
    model: str | None,
    ray: str | None,
    no_preflight: bool,
    require_promote: bool,
) -> int:
    """Cut the history into periods, train before each and replay it, and give one verdict over all of them.

    Every period has a run folder of its own below RUN/walk/folds; journal, verdict and page
    over all of them are in RUN/walk. Whatever is up to date is skipped: after an interruption
    or a failed period the same command does what is missing.
    """
    from candletune.experiments.walk.run import walk as walk_on
    from candletune.preflight import preflight
    from candletune.stages import STAGES
    from candletune.stages.pipeline import prepare

    given = {"walk.model": model, "walk.ray": ray}
    overrides = {key: value for key, value in given.items() if value is not None}
    session = open_session(config_path, assignments, overrides=overrides)
    run, reporter = session.run, session.reporter

    def look(first: "Config") -> None:
        if not no_preflight:
            preflight(first, run, reporter, ("dataset",) if first.walk.model == "boosting" else list(STAGES))

    with run.lock():
        config = prepare(session.config, run, reporter)
        summary = walk_on(config, run, reporter, before=look)
    reporter.say(f"verdict: {summary.verdict} ({summary.reason})")
    return 4 if require_promote and summary.verdict != "promote" else 0
