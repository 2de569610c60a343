"""What is looked at before hours are spent: every late failure that can be known now is refused now, all at once.

`doctor` shows every finding; `run`, `train` and `retrain` refuse when one is a problem. A check is one function in
`data`, `machine`, `models`, `served`, `servers`, `prompts` or `incumbents`; it names the stages that would fail.
"""

from collections.abc import Sequence

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import CandletuneError
from candletune.preflight import data, incumbents, machine, models, prompts, served, servers
from candletune.preflight.findings import CHECKS, Finding, check, examine
from candletune.runs import RunFolder
from candletune.stages import STAGES, stage
from candletune.stages.runner import is_current

__all__ = [
    "CHECKS",
    "Finding",
    "PreflightFailed",
    "check",
    "data",
    "examine",
    "incumbents",
    "machine",
    "models",
    "preflight",
    "prompts",
    "served",
    "servers",
]


class PreflightFailed(CandletuneError):
    """What would end a later stage; each problem is a line of its own.

    Attributes:
        problems: one line each.
        exit_code: 3 when a file is missing or broken, 2 when only configuration values are wrong.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.problems = [finding.text for finding in findings]
        self.exit_code = max(finding.exit_code for finding in findings)
        super().__init__("; ".join(self.problems))

    @property
    def lines(self) -> list[str]:
        """One line a problem."""
        return self.problems


def pending_stages(config: Config, run: RunFolder, *, force: bool = False) -> list[str]:
    """The stages that `run` would execute: from the first one that is not up to date on; a dataset needs no base."""
    pending: list[str] = []
    for name in STAGES:
        if force or (pending and name != "dataset") or not is_current(stage(name), config, run):
            pending.append(name)
    return pending


def preflight(config: Config, run: RunFolder, reporter: Reporter, stages: Sequence[str]) -> None:
    """Refuse what would fail later, and warn of what may disappoint.

    Args:
        config: with `data.folder` at the simulated candles, when those are asked for.
        run: the run folder; nothing is written.
        reporter: hears of warnings.
        stages: those that will run.

    Raises:
        PreflightFailed: at least one of them would fail; it has all problems.
    """
    if not stages:
        return
    findings = examine(config, stages)
    if problems := [finding for finding in findings if finding.level == "problem"]:
        raise PreflightFailed(problems)
    for finding in findings:
        if finding.level == "warning":
            reporter.warn(finding.text)
