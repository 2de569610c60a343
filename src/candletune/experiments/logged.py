"""What a training logs, read while it may still be writing."""

import math
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from candletune.artifacts import LoggedStep
from candletune.errors import InputError

_LINE = TypeAdapter(dict[str, JsonValue])


def logged_steps(path: Path) -> list[LoggedStep]:
    """The lines of a `metrics.jsonl`, in order; none without the file. A last line without an end is left out.

    Raises:
        InputError: another line is broken.
    """
    steps = []
    for number, line in _lines(path):
        try:
            steps.append(LoggedStep.model_validate_json(line))
        except ValidationError as error:
            raise _broken(path, number, error) from None
    return steps


def logged_numbers(path: Path) -> list[tuple[int, str, float]]:
    """Every finite number that a training logged: step, name and value, in order.

    Raises:
        InputError: see `logged_steps`.
    """
    found = []
    for number, line in _lines(path):
        try:
            row = _LINE.validate_json(line)
        except ValidationError as error:
            raise _broken(path, number, error) from None
        step = row.pop("step", None)
        for name, value in row.items():
            if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
                found.append((step, name, float(value)))
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        if line.strip():
            yield number, line


def _broken(path: Path, number: int, error: ValidationError) -> InputError:
    remedy = "train again with `candletune train --force`"
    return InputError(f"{path}:{number}: not a line of a training ({error.errors()[0]['msg']}); {remedy}")
