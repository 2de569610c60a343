"""`template`: show one, check one against what a trader really sent, make one from an f-string."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import SuggestingGroup, with_config
from candletune.commands.result import say_result, wants_json, with_json

if TYPE_CHECKING:
    from candletune.prompts.samples import SamplesReport

SHOWN = 10
"""Differing rows that are printed."""


@click.group(cls=SuggestingGroup, epilog="Example: candletune template check mine.j2 --samples prompts.jsonl")
def template() -> None:
    """Prompt templates: show the packaged one, check your own, make one from an f-string."""


@template.command(
    short_help="Print the packaged template, or FILE.", epilog="Example: candletune template show > mine.j2"
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--rendered", is_flag=True, help="With an example's values.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def show(file: Path | None, rendered: bool) -> None:
    """Print the packaged template, or FILE."""
    from candletune.fields.registry import EXAMPLE
    from candletune.prompts.template import load_template

    loaded = load_template(file)
    click.echo(loaded.render(EXAMPLE) if rendered else loaded.text, nl=rendered)


@template.command(
    short_help="Check FILE, and compare it with prompts really sent.",
    epilog="Example: candletune template check mine.j2 --samples prompts.jsonl",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    help="JSON lines with a context and the prompt that was really sent for it.",
)
@with_config
@with_json
def check(file: Path | None, samples: Path | None, config_path: Path, assignments: tuple[str, ...]) -> None:
    """Check FILE (or the configuration's template), and that it gives the prompts a trader really sent, to the byte.

    Exit code 4 when a prompt differs; each differing row is told with the first position.
    """
    from candletune.errors import CheckFailed
    from candletune.prompts.samples import check_samples
    from candletune.prompts.template import load_template

    loaded = load_template(file or _configured(config_path, assignments))
    click.echo(f"{loaded.name}: sound; sha256 {loaded.sha256}", err=wants_json())
    facts = {"template": loaded.name, "sha256": loaded.sha256}
    if samples is None:
        say_result(**facts)
        return
    report = check_samples(loaded, samples)
    _tell(report)
    say_result(**facts, rows=report.rows, differences=[asdict(one) for one in report.differences])
    if report.differences:
        raise CheckFailed(
            f"{samples}: {len(report.differences)} of {report.rows} prompts differ from what {loaded.name} renders; "
            "raw.<key> and fmt give any number format (docs/bring_your_trader.md)"
        )
    click.echo(f"{samples}: {report.rows} prompts, all the same to the byte", err=wants_json())


@template.command(
    "from-fstring",
    short_help="Make a template from a Python f-string.",
    epilog="Example: candletune template from-fstring trader.py --name prompt > mine.j2",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Variable or function that holds the prompt's f-string.")
@click.option(
    "--map", "pairs", multiple=True, metavar="NAME=KEY", help="A name of the file for a context key; repeatable."
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def from_fstring(file: Path, name: str | None, pairs: tuple[str, ...]) -> None:
    """Print the template that says what the f-string in the Python file FILE says. The file is read, not run."""
    from candletune.errors import UsageError
    from candletune.fields.registry import KEY_NAMES
    from candletune.prompts.from_fstring import template_text
    from candletune.prompts.template import parse_template

    names = dict(pair.partition("=")[::2] for pair in pairs)
    for own, key in names.items():
        if key not in KEY_NAMES:
            raise UsageError(f"--map {own}={key}: no such context key; known: {', '.join(KEY_NAMES)}")
    text = template_text(file, name=name, names=names)
    click.echo(text, nl=False)
    parse_template(str(file), text)


@template.command(short_help="List the fields a template can show.", epilog="Example: candletune template fields")
@with_json
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def fields() -> None:
    """List the fields: their formatted names with an example, their raw values, and where each comes from."""
    from candletune.fields.registry import EXAMPLE, FIELDS

    said = []
    for field in FIELDS:
        values = {f"raw.{key.name}": key.raw_value(key.example) for key in field.keys}
        said.append({"field": field.name, "source": field.source, **field.display(EXAMPLE), **values})
        if wants_json():
            continue
        shown = ", ".join(f"{name} = {value}" for name, value in field.display(EXAMPLE).items())
        raw = ", ".join(f"raw.{key.name} = {key.raw_value(key.example)!r}" for key in field.keys)
        click.echo(f"{field.name}: {field.source}\n  {shown}\n  {raw}")
    say_result(fields=said)


def _configured(config_path: Path, assignments: tuple[str, ...]) -> Path | None:
    """The configuration's template; none without a configuration file, which is the packaged one."""
    from candletune.commands import open_session

    return open_session(config_path, assignments, needs=(("prompt.template",),)).config.prompt.template


def _tell(report: "SamplesReport") -> None:
    err = wants_json()
    if report.unwrapped:
        click.echo(f"{report.unwrapped} prompts: [INST] and [/INST] left out, since the chat format adds them", err=err)
    for difference in report.differences[:SHOWN]:
        click.echo(f"line {difference.row}: {difference.reason}", err=err)
        if difference.sent or difference.rendered:
            click.echo(f"  sent      {difference.sent}\n  rendered  {difference.rendered}", err=err)
    if len(report.differences) > SHOWN:
        click.echo(f"... and {len(report.differences) - SHOWN} more", err=err)
