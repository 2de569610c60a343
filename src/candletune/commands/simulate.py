"""`simulate`: a market with a known answer as files, with news where it is asked for."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config
from candletune.commands.result import say_result, with_json


@click.command(epilog="Example: candletune simulate --news 1 --output market")
@with_config
@with_json
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("market"), show_default=True, help="Folder to write."
)
@click.option("--news", type=click.FloatRange(0, 1), help="How strongly events move the price that headlines tell of.")
@click.option("--signal", type=click.FloatRange(0, 1), help="How strongly trends go on; 0: prices alone tell nothing.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random choice.")
def simulate(
    config_path: Path,
    assignments: tuple[str, ...],
    output: Path,
    news: float | None,
    signal: float | None,
    seed: int | None,
) -> None:
    """Write a simulated market: candles and, with news, headlines and the hidden events behind them.

    Says what the best possible reader of it reaches, with headlines and without. In a run `simulate.enabled` does the
    same inside the run folder.
    """
    from candletune.config_file import toml_value
    from candletune.market.simulated import HEADLINES, best_attainable, write_market

    given = {"simulate.news": news, "simulate.signal": signal, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    session = open_session(config_path, assignments, needs=(), overrides=overrides)
    config, reporter = session.config, session.reporter
    write_market(config, output)
    best = best_attainable(config)
    reporter.say(
        f"{output}: {config.simulate.hours} hours of {', '.join(config.data.pairs)}; the best attainable balanced "
        f"accuracy is {best.balanced:.1%} (chance 33.3%)"
    )
    lines = ["[data]", f"folder = {toml_value(output.absolute())}"]
    if best.without_text is not None:
        reporter.say(
            f"without headlines {best.without_text:.1%}; from {config.simulate.unseen_from:%Y-%m-%d} on the wordings "
            "are new, and half of the kinds of events"
        )
        lines += [f"headlines = {toml_value((output / HEADLINES).absolute())}"]
        lines += ["headline_hours = 4", "headline_repeat_hours = 0"]
        lines += ["[dataset]", f"test_start = {toml_value(config.simulate.unseen_from)}"]
    reporter.say("use it with these lines in your configuration:\n" + "\n".join(lines))
    say_result(
        path=output, balanced=best.balanced, without_text=best.without_text, unseen_from=config.simulate.unseen_from
    )
