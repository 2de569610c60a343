"""`coins`: each coin left out of training in turn."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import open_session, with_config, without_preflight
from candletune.commands.result import say_result, with_json

if TYPE_CHECKING:
    from candletune.config import Config
    from candletune.experiments.coins.folds import Stands


@click.command(epilog="Example: candletune coins --model boosting --set data.pairs=all")
@with_config
@with_json
@click.option(
    "--model",
    type=click.Choice(["llm", "boosting"]),
    default="llm",
    show_default=True,
    help="boosting: gradient boosting stands in for the language model, in seconds a coin.",
)
@without_preflight
def coins(config_path: Path, assignments: tuple[str, ...], model: "Stands", no_preflight: bool) -> None:
    """Leave each coin out of training in turn, and ask about it: does what is learned carry over to a coin never seen?

    One training more than there are coins: on all of them, and on all but each. Every training has a run folder of its
    own below RUN/coins/folds; RUN/coins/coins.json has the figures. Whatever is up to date is skipped. Nothing is
    judged or promoted, and no try is spent.
    """
    from candletune.experiments.coins.run import leave_one_out
    from candletune.experiments.coins.table import coins_text
    from candletune.preflight import preflight
    from candletune.stages import STAGES
    from candletune.stages.pipeline import prepare

    session = open_session(config_path, assignments)
    run, reporter = session.run, session.reporter

    def look(first: "Config") -> None:
        if not no_preflight:
            preflight(first, run, reporter, ("dataset",) if model == "boosting" else list(STAGES))

    with run.lock():
        config = prepare(session.config, run, reporter)
        found = leave_one_out(config, run, reporter, model, before=look)
    reporter.say(coins_text(found))
    say_result(path=str(run.coins_record), coins=[coin.model_dump(mode="json") for coin in found.coins])
