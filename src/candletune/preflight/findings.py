"""One list of checks for `doctor` and for what `run` refuses; a check is one function under `@check`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from candletune.config import Config
from candletune.errors import CandletuneError

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it.

    Attributes:
        level: a problem would end a stage; a warning would not.
        subject: what was looked at.
        text: how it is, and the remedy.
        exit_code: a problem's, as the stage itself would leave: 2 for a configuration value, 3 for a file.
    """

    level: Level
    subject: str
    text: str
    exit_code: int = 3


Work = Callable[[Config], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A check: what it looks at, which stages would fail without it (none: only `doctor` asks), and how."""

    subject: str
    stages: tuple[str, ...]
    work: Work


CHECKS: list[Check] = []
"""In the order in which they are shown; filled by `check`."""


def check(subject: str, *stages: str) -> Callable[[Work], Work]:
    """Register a check.

    It yields findings. A `CandletuneError` that it raises is a problem with that text, so that a check may call the
    very function that would fail later.

    Args:
        subject: names the findings of a raised error.
        stages: the stages that would fail.
    """

    def register(work: Work) -> Work:
        CHECKS.append(Check(subject, stages, work))
        return work

    return register


def examine(config: Config, stages: Sequence[str] | None = None) -> list[Finding]:
    """Run the checks that concern these stages (None: all); none of them raises."""
    findings: list[Finding] = []
    for one in CHECKS:
        if stages is None or set(one.stages) & set(stages):
            findings += _asked(one, config)
    by_text = {(finding.level, finding.text): finding for finding in reversed(findings)}
    return [finding for finding in findings if by_text[finding.level, finding.text] is finding]  # each text once


def _asked(one: Check, config: Config) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings += one.work(config)
    except CandletuneError as error:
        findings.append(Finding("problem", one.subject, str(error), max(2, error.exit_code)))
    return findings
