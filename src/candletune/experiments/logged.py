"""What a training logs, read while it may still be writing."""

from pathlib import Path

from pydantic import ValidationError

from candletune.artifacts import LoggedStep
from candletune.errors import InputError


def logged_steps(path: Path) -> list[LoggedStep]:
    """The lines of a `metrics.jsonl`, in order; none without the file. A last line without an end is left out.

    Raises:
        InputError: another line is broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    steps = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        if not line.strip():
            continue
        try:
            steps.append(LoggedStep.model_validate_json(line))
        except ValidationError as error:
            remedy = "train again with `candletune train --force`"
            raise InputError(
                f"{path}:{number}: not a line of a training ({error.errors()[0]['msg']}); {remedy}"
            ) from None
    return steps
