"""`status`: where a run stands."""

from pathlib import Path

import click

from candletune.commands import RUN, open_session, with_config


@click.command(epilog="Example: candletune status --config candletune.toml")
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def status(config_path: Path, assignments: tuple[str, ...], as_json: bool) -> None:
    """Show the run's stages, its adapters and certificates, the verdict, and which adapter is active."""
    import json

    from candletune.status import status_of
    from candletune.status_text import print_status

    session = open_session(config_path, assignments, needs=(RUN,))
    where = status_of(session.config, session.run)
    if as_json:
        click.echo(json.dumps(where.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        print_status(where)
