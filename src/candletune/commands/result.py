"""`--json`: a command's result as one JSON object on standard output, for scripts; messages stay on standard error."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from candletune.stages.runner import StageOutcome

F = TypeVar("F", bound=Callable[..., Any])
SAID = "candletune.json.said"
"""In the context's object: the result is on standard output, which holds one object and no second one."""
_ASKED = "candletune.json"


def with_json(function: F) -> F:
    """Add `--json`; the command says its result through `say_result`."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Print the result as one JSON object; messages stay on standard error.",
    )(function)


def _remember(context: click.Context, _: click.Parameter, asked: bool) -> None:
    context.meta[_ASKED] = asked


def wants_json() -> bool:
    """Whether the command that runs was given `--json`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_ASKED))


def say_result(**values: Any) -> None:
    """Print the command's name and these values, where JSON was asked for."""
    if not wants_json():
        return
    context = click.get_current_context()
    print_json({"command": context.command_path.split(" ", 1)[-1], **values})
    context.ensure_object(dict)[SAID] = True


def say_error(message: str, exit_code: int) -> None:
    """What a script reads instead of a result."""
    print_json({"error": message, "exit_code": exit_code})


def print_json(value: Mapping[str, Any]) -> None:
    """One object, a line; paths as text."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def stage_result(outcome: "StageOutcome") -> dict[str, object]:
    """A stage's part of a result."""
    return {
        "up_to_date": outcome.skipped,
        "seconds": round(outcome.seconds, 3),
        "summary": outcome.summary.model_dump(mode="json"),
    }


def run_result(outcomes: "Mapping[str, StageOutcome]", report: Path) -> dict[str, object]:
    """A whole pipeline's: the verdict, the report, and each stage."""
    from candletune.artifacts import EvaluateSummary

    return {
        "verdict": outcomes["evaluate"].summary_as(EvaluateSummary).verdict,
        "report": report,
        "stages": {name: stage_result(outcome) for name, outcome in outcomes.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(type(value).__name__)
