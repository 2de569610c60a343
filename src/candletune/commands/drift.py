"""`drift`: whether the promoted model is still what it was judged to be."""

from pathlib import Path

import click

from candletune.commands import RUN, open_session, with_config


@click.command(epilog="Example: candletune drift --config candletune.toml")
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def drift(config_path: Path, assignments: tuple[str, ...], as_json: bool) -> int:
    """Compare the model that acts with what it was judged at: its calls, its probabilities, what it is asked.

    `candletune shadow` looks once a day by itself. Exit code 4 when there is an alarm.
    """
    import json

    from candletune.errors import CheckFailed
    from candletune.live.drift import look

    config = open_session(config_path, assignments, needs=(RUN,)).config
    report = look(config)
    if report is None:
        click.echo("{}" if as_json else "nothing was promoted, so nothing is watched")
        return 0
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        click.echo(f"{report.name}, promoted {report.since}: {report.days} whole days with outcomes")
        if report.note:
            click.echo(f"  {report.note}")
        for watch in report.watched:
            state = f"ALARM on {watch.alarm}" if watch.alarm else f"{watch.height:.0%} of an alarm"
            click.echo(f"  {watch.name}: {watch.seen}; certified: {watch.expected}; {state}")
        if report.replaced_better is not None:
            word = "better" if report.replaced_better else "no better"
            click.echo(f"  the replaced model did {word} over those days")
    return CheckFailed.exit_code if report.alarms else 0
