"""The run folders below some folders, and how far each is, as rows of the start page."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from candletune.artifacts import Certificate, Metrics, RunManifest, TrainSummary, Verdict
from candletune.errors import CandletuneError
from candletune.experiments.compare_table import verdict_text
from candletune.experiments.entrants import Entrant
from candletune.report.text import interval, number, percent
from candletune.runs import MANIFEST, RunFolder
from candletune.stages import STAGES
from candletune.stages.progress import read_progress

DEPTH: Final = 5
"""Folders below a root in which runs are looked for: a walk's periods and a sweep's trials lie below their run."""
MOST: Final = 4000
"""Folders looked into at most, so that a root chosen by mistake holds nobody up."""
OWN: Final = frozenset(
    ("dataset", "adapter", "train", "gguf", "verify", "replay", "evaluation", "report", "audit", "candles", "history")
)
"""Folders of a run that hold no other run."""
TONES: Final = {"promote": "good", "keep": "bad"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A run folder, and its name in addresses: its place below the root, with `~` for a slash."""

    key: str
    name: str
    run: RunFolder


@dataclass(frozen=True, slots=True)
class Row:
    """A run as the start page shows it, all text.

    Attributes:
        state: what it does now, or what it came to last.
        alive: whether a stage is at work.
        changed: when a stage began or finished last (UTC).
        problem: why its files can't be read; then the figures are empty.
    """

    key: str
    name: str
    state: str
    alive: bool = False
    verdict: str = ""
    tone: str = "wait"
    certificate: str = ""
    log_loss: str = ""
    accuracy: str = ""
    ends: str = ""
    balanced: str = ""
    changed: datetime | None = None
    report: bool = False
    problem: str = ""


@dataclass
class RunList:
    """Looks for runs, and keeps what it has read until a file of the run changes.

    Folders are walked through every few seconds at most: pages that follow them ask each second.
    """

    roots: Sequence[Path]
    keep_seconds: float = 2.0
    _found: tuple[float, list[Listed]] = field(default_factory=lambda: (-math.inf, []))
    _read: dict[Path, tuple[object, Row]] = field(default_factory=dict)

    def find(self) -> list[Listed]:
        """Every run folder below the roots, by name; a root that is a run folder itself is one."""
        when, known = self._found
        if time.monotonic() - when > self.keep_seconds:
            known = self._look()
            self._found = (time.monotonic(), known)
        return known

    def _look(self) -> list[Listed]:
        found: dict[str, Listed] = {}
        for root in self.roots:
            for folder in run_folders_below(root):
                name = root.name if folder == root else folder.relative_to(root).as_posix()
                if name.replace("/", "~") in found:  # of two roots
                    name = f"{root.name}/{name}"
                found.setdefault(name.replace("/", "~"), Listed(name.replace("/", "~"), name, RunFolder(folder)))
        return [found[key] for key in sorted(found, key=lambda key: (found[key].name.count("/"), key))]

    def get(self, key: str) -> Listed | None:
        """The run of a name in an address; one that is new is looked for."""
        for runs in (self.find, self._look):
            for listed in runs():
                if listed.key == key:
                    return listed
        return None

    def rows(self) -> list[Row]:
        """The start page's rows: what works now, then what changed last."""
        rows = [self._row(listed) for listed in self.find()]
        oldest = datetime.min.replace(tzinfo=UTC)
        return sorted(rows, key=lambda row: (row.alive, row.changed or oldest), reverse=True)

    def _row(self, listed: Listed) -> Row:
        run = listed.run
        files = (run.manifest_file, run.progress, run.verdict, run.metrics, run.certificate, run.report)
        progress = read_progress(run)
        state = (*(file_state(path) for path in files), progress is not None and progress.alive)
        known = self._read.get(run.path)
        if known is None or known[0] != state:
            known = (state, row_of(listed))
            self._read[run.path] = known
        return known[1]


def file_state(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None without it."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def run_folders_below(root: Path) -> Iterator[Path]:
    """The root, or folders below it, that a stage has begun to work in."""
    left = MOST
    waiting = [(root, 0)]
    while waiting and left:
        folder, depth = waiting.pop(0)
        left -= 1
        mine = _is_run(folder)
        if mine:
            yield folder
        if depth == DEPTH:
            continue
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        except OSError:
            continue
        waiting += [
            (path, depth + 1) for path in inner if not path.name.startswith(".") and not (mine and path.name in OWN)
        ]


def _is_run(folder: Path) -> bool:
    """A manifest of stages, other than one where a base was written for all; or a first stage at work."""
    if (folder / MANIFEST).is_file():
        try:
            stages = RunFolder(folder).manifest().stages
        except CandletuneError:  # a dataset's, whose manifest is another kind of file, or a broken one
            return (folder / "progress.json").is_file() or (folder / "dataset").is_dir()
        return bool(stages) and set(stages) != {"base"}
    return read_progress(RunFolder(folder)) is not None


def row_of(listed: Listed) -> Row:
    """Read a run's row."""
    run = listed.run
    try:
        manifest = run.manifest()
        state, alive, changed = _state(run, manifest)
        entrant = _without_rows(run, listed.name, manifest)
    except CandletuneError as error:
        return Row(listed.key, listed.name, "unreadable", problem=str(error))
    side = None if entrant.metrics is None else entrant.metrics.shadow
    verdict = verdict_text(entrant)
    return Row(
        listed.key,
        listed.name,
        state,
        alive=alive,
        verdict=verdict,
        tone=TONES.get(verdict, "wait"),
        certificate="none" if entrant.certificate is None else "passed" if entrant.certificate.passed else "failed",
        log_loss=number(entrant.eval_log_loss, 4),
        accuracy=percent(side and side.accuracy_signals),
        ends=interval(None if entrant.metrics is None else entrant.metrics.comparison.sides["shadow"].bounds),
        balanced=percent(side and side.balanced_accuracy),
        changed=changed,
        report=run.report.is_file(),
    )


def _without_rows(run: RunFolder, name: str, manifest: RunManifest) -> Entrant:
    """As `read_entrant`, without the replay's rows, the settings and what training logged."""
    return Entrant(
        name=name,
        path=run.path,
        settings={},
        steps=(),
        training=run.summary_if_done(TrainSummary),
        certificate=Certificate.read_if_there(run.certificate),
        verdict=Verdict.read_if_there(run.verdict),
        metrics=Metrics.read_if_there(run.metrics),
        scored=None,
        seconds={stage: entry.seconds for stage, entry in manifest.stages.items()},
    )


def _state(run: RunFolder, manifest: RunManifest) -> tuple[str, bool, datetime | None]:
    """In words what the run does, whether a stage is at work, and when something changed last."""
    progress = read_progress(run)
    finished = {name: datetime.fromisoformat(entry.finished) for name, entry in manifest.stages.items()}
    order = list(STAGES)
    last = max(finished, key=lambda name: (finished[name], name in order and order.index(name)), default=None)
    changed = None if last is None else finished[last]
    if progress is not None:
        began = max(filter(None, (changed, progress.started)))
        if progress.alive:
            return f"{progress.stage}: {progress.describe()}", True, began
        return f"stopped in {progress.stage}", False, began
    if last is None:
        return "nothing finished", False, None
    left = [name for name in STAGES if name not in manifest.stages]
    return f"{last} finished" if left else "all stages finished", False, changed
