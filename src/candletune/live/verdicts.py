"""Whether a verdict allows a promotion: the very files, the full criteria as configured, unseen rows, on record."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from candletune.artifacts import Verdict
from candletune.config import Config
from candletune.decide import BARE_BASE, Model
from candletune.errors import CheckFailed, InputError
from candletune.evaluation.beaten import criterion_name
from candletune.evaluation.tries import ledger_of
from candletune.runs import RunFolder

_REMEDY = "; --force REASON promotes all the same"


@dataclass(frozen=True, slots=True)
class _Filed:
    """A verdict and its file."""

    path: Path
    verdict: Verdict

    @property
    def decided(self) -> datetime:
        """When it was given; a file of an earlier candletune does not say, so its own date counts."""
        if self.verdict.decided:
            return datetime.fromisoformat(self.verdict.decided)
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)


def check_verdict(config: Config, run: RunFolder, candidate: Model, active: Model) -> str:
    """The reason of the verdict that allows `candidate` to replace `active`.

    The latest verdict about these two files that decided anything counts, from the replay or from a shadow test. A
    later look that found not enough evidence takes nothing back; a later `keep` does. It must have been asked under the
    configured rule, and be on record in the configured ledger, with the part of the error budget that it spent.

    Raises:
        CheckFailed: there is none, or it does not say `promote`.
        InputError: no verdict was given in this run, or its file is broken.
    """
    filed = [_Filed(path, Verdict.read(path)) for path in _files(run) if path.is_file()]
    if not filed:
        raise InputError(f"{run.verdict}: no verdict; run `candletune evaluate` first, or give a reason with --force")
    filed.sort(key=lambda item: item.decided)
    about = [item for item in filed if _mismatch(item.verdict, candidate, active) is None]
    if not about:
        raise CheckFailed(f"{filed[-1].path}: {_mismatch(filed[-1].verdict, candidate, active)}{_REMEDY}")
    valid = [item for item in about if item.verdict.rule == "full" and not item.verdict.forced]
    decided = [item for item in valid if item.verdict.verdict != "not enough evidence"]
    if decided and decided[-1].verdict.verdict == "promote":
        _check_record(decided[-1], config)
        return decided[-1].verdict.reason
    refusing = (decided or valid or about)[-1]
    raise CheckFailed(f"{refusing.path}: {_refusal(refusing.verdict)}{_REMEDY}")


def _check_record(filed: _Filed, config: Config) -> None:
    """Refuse a verdict that the ledger does not know, or that was asked under another rule than the configured one."""
    ledger, spent = ledger_of(config), filed.verdict.spent
    entry = None if spent is None else ledger.tries().get(spent.try_id)
    if spent is None or entry is None or entry.first.number > spent.number:
        raise CheckFailed(
            f"{filed.path}: the verdict is not on record in {ledger.path}, where every verdict on the same candles "
            f"counts; run `candletune evaluate --force` again{_REMEDY}"
        )
    asked = {criterion.name for criterion in filed.verdict.criteria}
    for name in config.evaluate.must_beat:
        if criterion_name(name) not in asked:
            raise CheckFailed(
                f"{filed.path}: the verdict did not ask whether the candidate beats {name} (evaluate.must_beat); run "
                f"`candletune evaluate` again{_REMEDY}"
            )
    configured = config.evaluate.model_dump(mode="json")
    for name, value in entry.line.settings.items():
        if name in configured and configured[name] != value:
            raise CheckFailed(
                f"{filed.path}: the verdict was given with evaluate.{name} = {value}, the configuration says "
                f"{configured[name]}; run `candletune evaluate` with that{_REMEDY}"
            )


def _files(run: RunFolder) -> list[Path]:
    return [*sorted(run.verdicts.glob("*.json")), run.shadow_verdict, run.verdict]


def _mismatch(verdict: Verdict, candidate: Model, active: Model) -> str | None:
    """Which of the two models a verdict is not about; None when it is about both."""
    for role, judged, expected in (
        ("candidate", verdict.candidate, candidate),
        ("incumbent", verdict.incumbent, active),
    ):
        if judged.adapter_sha256 != expected.sha256:
            return (
                f"the verdict is about {role} {_short(judged.adapter_sha256)}, not {expected.name} "
                f"{_short(expected.sha256)}; replay and evaluate again"
            )
    return None


def _refusal(verdict: Verdict) -> str:
    if verdict.forced:
        return "the replay covered rows the training saw"
    if verdict.rule != "full" and verdict.verdict == "promote":
        return (
            "the verdict was given by the plan's three criteria alone (evaluate.criteria=plan); evaluate with "
            "evaluate.criteria=full"
        )
    return f"the verdict is {verdict.verdict!r} ({verdict.reason})"


def _short(sha256: str | None) -> str:
    return f"({BARE_BASE})" if sha256 is None else f"{sha256[:12]}"
