"""Where a run stands: stages, adapters and certificates, the verdict, and who is active."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from candletune.artifacts import Certificate, DriftReport, Record, StageEntry, TrySpent, Verdict
from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.evaluation.tries import ledger_of
from candletune.gguf.catalogue import hashed_files
from candletune.live.drift import read_report
from candletune.live.models import active_model
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.progress import read_progress


class RunningStage(Record):
    """The stage at work, how far it is, and whether its process still lives.

    Attributes:
        alive: the process that wrote the progress still runs.
        text: how far it is, in words.
        stage, task, done, total, note, seconds_left, started, updated, pid: as `StageProgress` has them.
    """

    stage: str
    task: str
    done: float
    total: float | None
    note: str
    seconds_left: float | None
    started: datetime
    updated: datetime
    pid: int
    alive: bool
    text: str


class FinishedStage(Record):
    """When a stage finished (ISO 8601 in UTC), how long it took, and what it said."""

    finished: str
    seconds: float
    headline: str


FileKind = Literal["base", "adapter", "merged"]


class ExportedFile(Record):
    """A GGUF of the run."""

    file: str
    kind: FileKind
    bytes: int
    sha256: str


class VerificationStatus(Record):
    """The certificate: whether it passed, what was noticed, and when."""

    passed: bool
    findings: tuple[str, ...]
    finished: str


class VerdictStatus(Record):
    """A verdict, why, whether part of its rows was seen in training, and what it spent of the error budget."""

    verdict: str
    reason: str
    forced: bool
    spent: TrySpent | None


class LedgerStatus(Record):
    """The ledger of tries; `registered` are those whose replay nobody has looked at yet."""

    path: str
    tries: int
    registered: int


class LedgerProblem(Record):
    """Why the ledger cannot be read."""

    path: str
    problem: str


class ActiveStatus(Record):
    """The model that acts now, and where that is on record."""

    source: str
    name: str
    path: str | None
    sha256: str | None
    kind: str


class ActiveProblem(Record):
    """Why nobody can say who acts."""

    source: str
    problem: str


class JournalStatus(Record):
    """The shadow test's journal; `accuracy` is by side, `effective` the evidence so far, of `needed`."""

    path: str
    rows: int
    last: str | None
    agreement: float | None
    accuracy: Mapping[str, float | None]
    effective: float
    needed: int
    days_left: float


class JournalProblem(Record):
    """Why the shadow test's journal cannot be read."""

    path: str
    problem: str


class DriftProblem(Record):
    """Why the drift monitor's last look cannot be read."""

    problem: str


class RunStatus(Record):
    """All of it; a part that has not happened yet is None, a part that is broken says so."""

    run: str
    running: RunningStage | None
    stages: Mapping[str, FinishedStage | None]
    adapters: tuple[ExportedFile, ...]
    verification: VerificationStatus | None
    verdict: VerdictStatus | None
    shadow_verdict: VerdictStatus | None
    ledger: LedgerStatus | LedgerProblem
    active: ActiveStatus | ActiveProblem
    journal: JournalStatus | JournalProblem | None
    drift: DriftReport | DriftProblem | None


def status_of(config: Config, run: RunFolder) -> RunStatus:
    """Look at the run folder, the live state and the journal."""
    stages = run.manifest().stages
    return RunStatus(
        run=str(run.path),
        running=_running(run),
        stages={name: _finished(stages.get(name)) for name in STAGES},
        adapters=_adapters(run),
        verification=_verification(run),
        verdict=_verdict(run.verdict),
        shadow_verdict=_verdict(run.shadow_verdict),
        ledger=_ledger(config),
        active=_active(config),
        journal=_journal(config, run),
        drift=_drift(config),
    )


def _running(run: RunFolder) -> RunningStage | None:
    progress = read_progress(run)
    if progress is None:
        return None
    facts = progress.model_dump(exclude={"version", "process_started"})
    return RunningStage(**facts, alive=progress.alive, text=progress.describe())


def _finished(entry: StageEntry | None) -> FinishedStage | None:
    if entry is None:
        return None
    return FinishedStage(finished=entry.finished, seconds=entry.seconds, headline=entry.headline)


def _verdict(path: Path) -> VerdictStatus | None:
    verdict = Verdict.read_if_there(path)
    if verdict is None:
        return None
    return VerdictStatus(verdict=verdict.verdict, reason=verdict.reason, forced=verdict.forced, spent=verdict.spent)


def _ledger(config: Config) -> LedgerStatus | LedgerProblem:
    ledger = ledger_of(config)
    try:
        tries = ledger.tries().values()
    except CandletuneError as error:
        return LedgerProblem(path=str(ledger.path), problem=str(error))
    return LedgerStatus(path=str(ledger.path), tries=len(tries), registered=sum(not entry.looks for entry in tries))


def _adapters(run: RunFolder) -> tuple[ExportedFile, ...]:
    """Every GGUF of the run: what it is, its size and hash."""
    found = []
    for path, digest, known in hashed_files(run.gguf):
        # What was put there by hand is in no catalogue; its name says what it is taken for.
        named: FileKind = (
            "base" if path.stem.startswith(run.base_gguf.stem) else "merged" if path == run.merged_gguf else "adapter"
        )
        found.append(ExportedFile(file=str(path), kind=known or named, bytes=path.stat().st_size, sha256=digest))
    return tuple(found)


def _verification(run: RunFolder) -> VerificationStatus | None:
    entry = run.entry("verify")
    certificate = Certificate.read_if_there(run.certificate)
    if entry is None or certificate is None:
        return None
    findings = tuple(f"{finding.name} {finding.value:g}" for finding in certificate.findings)
    return VerificationStatus(passed=certificate.passed, findings=findings, finished=entry.finished)


def _active(config: Config) -> ActiveStatus | ActiveProblem:
    """Which adapter acts now; before the first promotion it is the configured incumbent."""
    source = str(config.live.state) if config.live.state.exists() else "configuration"
    try:
        model = active_model(config)
    except CandletuneError as error:
        return ActiveProblem(source=source, problem=str(error))
    path = None if model.path is None else str(model.path)
    return ActiveStatus(source=source, name=model.name, path=path, sha256=model.sha256, kind=model.kind)


def _journal(config: Config, run: RunFolder) -> JournalStatus | JournalProblem | None:
    """The journal as the live page shows it: in a simulated market, too, outcomes come from the run's candles."""
    from candletune.evaluation.live import live_view

    if config.simulate.enabled and run.candles.is_dir():
        config = config.model_copy(update={"data": config.data.model_copy(update={"folder": run.candles})})
    try:
        view = live_view(config)
    except CandletuneError as error:
        return JournalProblem(path=str(config.live.journal), problem=str(error))
    if not view.exists:
        return None
    comparison = view.comparison
    return JournalStatus(
        path=str(view.path),
        rows=view.rows,
        last=view.last.isoformat() if view.last else None,
        agreement=comparison.agreement if comparison else None,
        accuracy={side: model.accuracy for side, model in view.sides.items()},
        effective=comparison.effective if comparison else 0.0,
        needed=view.needed,
        days_left=view.days_left,
    )


def _drift(config: Config) -> DriftReport | DriftProblem | None:
    try:
        return read_report(config)
    except CandletuneError as error:
        return DriftProblem(problem=str(error))
