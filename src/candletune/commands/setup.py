"""`init` writes a configuration, `doctor` checks the machine."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config
from candletune.commands.result import say_result, wants_json, with_json


@click.command(epilog="Example: candletune init --folder ~/freqtrade/user_data/data/binance")
@click.argument("target", type=click.Path(path_type=Path), default=Path("candletune.toml"))
@click.option("--folder", type=click.Path(path_type=Path), help="Your freqtrade data folder, written into the file.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def init(target: Path, folder: Path | None, force: bool) -> None:
    """Write a commented candletune.toml with every key at its default."""
    from candletune.config_file import commented_toml
    from candletune.errors import UsageError
    from candletune.files import write_text

    if target.exists() and not force:
        raise UsageError(f"{target}: exists already; edit it, choose another name, or use --force")
    values = {} if folder is None else {"data.folder": folder.expanduser().resolve()}
    write_text(target, commented_toml(values))
    click.echo(f"wrote {target}; next: candletune doctor --config {target}", err=True)


@click.command(epilog="Example: candletune doctor --config candletune.toml")
@with_config
@with_json
def doctor(config_path: Path, assignments: tuple[str, ...]) -> int:
    """Check versions, GPU, memory of every stage, disk, candles, context files and the models.

    These are the checks that `run` makes before it begins. Exit code 4 when something is missing.
    """
    from rich.console import Console
    from rich.markup import escape

    from candletune.preflight import examine

    session = open_session(config_path, assignments)
    config = session.config
    if config.simulate.enabled and session.run.candles.is_dir():
        config = session.with_candles()
    console = Console()
    findings = examine(config)
    marks = {"ok": "[green]ok  [/]", "warning": "[yellow]warn[/]", "problem": "[red]FAIL[/]"}
    say_result(findings=[{"level": one.level, "subject": one.subject, "text": one.text} for one in findings])
    for finding in [] if wants_json() else findings:
        console.print(
            f"{marks[finding.level]} {finding.subject:<12}", escape(finding.text), highlight=False, soft_wrap=True
        )
    return 4 if any(finding.level == "problem" for finding in findings) else 0
