"""A template held against prompts that a trader really sent: the same contexts must give the same bytes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candletune.errors import InputError
from candletune.prompts.context import clean_context
from candletune.prompts.template import Template

_OPENING = re.compile(r"\s*(?:<s>)?\s*\[INST\]")
_CLOSING = re.compile(r"\[/INST\]\s*(?:</s>)?\s*\Z")
_AROUND = 30


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a sent prompt and the rendered one part.

    Attributes:
        row: line of the file, from 1.
        reason: the position in words, or why the row cannot be rendered.
        sent: the sent prompt around it; empty when nothing was rendered.
        rendered: the rendered one around it.
    """

    row: int
    reason: str
    sent: str = ""
    rendered: str = ""


@dataclass(frozen=True, slots=True)
class SamplesReport:
    """What came of a file of samples.

    Attributes:
        rows: samples read.
        differences: in the file's order.
        unwrapped: samples whose `[INST]` and `[/INST]` were not compared, since the chat format adds them.
    """

    rows: int
    differences: tuple[Difference, ...]
    unwrapped: int


def check_samples(template: Template, path: Path) -> SamplesReport:
    """Render each sample's context and compare it with the prompt that was sent, byte by byte.

    White space around a prompt is the chat format's and left out.

    Args:
        template: a checked one.
        path: JSON lines with `context` (the Signal contract's keys) and `prompt`.

    Raises:
        InputError: the file or a line of it cannot be read.
    """
    differences: list[Difference] = []
    rows = unwrapped = 0
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected JSON lines with context and prompt") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        context, prompt = _sample(path, number, line)
        sent = _unwrapped(prompt)
        rows, unwrapped = rows + 1, unwrapped + (sent != prompt.strip())
        try:
            rendered = template.render(clean_context(context))
        except InputError as error:
            differences.append(Difference(number, str(error)))
            continue
        if rendered != sent:
            differences.append(_difference(number, sent, rendered))
    if rows == 0:
        raise InputError(f"{path}: no samples; write a JSON object with context and prompt on each line")
    return SamplesReport(rows, tuple(differences), unwrapped)


def _sample(path: Path, number: int, line: str) -> tuple[Mapping[str, Any], str]:
    try:
        sample = json.loads(line)
        context, prompt = sample["context"], sample["prompt"]
    except (ValueError, KeyError, TypeError):
        context = prompt = None
    if not isinstance(context, dict) or not isinstance(prompt, str):
        raise InputError(f'{path}: line {number} is not {{"context": {{...}}, "prompt": "..."}}; mend or remove it')
    return context, prompt


def _unwrapped(prompt: str) -> str:
    return _CLOSING.sub("", _OPENING.sub("", prompt, count=1)).strip() if _OPENING.match(prompt) else prompt.strip()


def _difference(row: int, sent: str, rendered: str) -> Difference:
    shared = 0
    for one, other in zip(sent, rendered, strict=False):
        if one != other:
            break
        shared += 1
    position = len(sent[:shared].encode())
    line, column = sent.count("\n", 0, shared) + 1, shared - (sent.rfind("\n", 0, shared) + 1) + 1
    reason = f"differs at byte {position} (line {line}, column {column})"
    return Difference(row, reason, _near(sent, shared), _near(rendered, shared))


def _near(text: str, position: int) -> str:
    """The text's line around a position; its end is shown as such."""
    start = max(text.rfind("\n", 0, position) + 1, position - _AROUND)
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    shown = text[start : min(end, position + _AROUND)]
    return shown if position < len(text) else f"{shown}<end>"
