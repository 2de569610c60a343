"""A run as a comparison reads it: settings, training, certificate, verdict and cost; nothing is computed anew."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import JsonValue

from candletune.artifacts import Certificate, LoggedStep, Metrics, TrainSummary, Verdict
from candletune.config import Config, timeframe_minutes
from candletune.config_source import leaves
from candletune.errors import InputError, UsageError
from candletune.experiments.logged import logged_steps
from candletune.runs import MANIFEST, RunFolder

LEFT_OUT: Final = ("run.", "live.", "notify.", "review.", "engine.url", "data.folder", "base.cache", "evaluate.ledger")
"""Settings that say where things lie or who is told, or hold an address."""
_UNSET: Final = "–"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A run of a comparison; what its stages have not come to is None or empty.

    Attributes:
        name: unique among the runs of the comparison.
        path: the run folder.
        settings: key in full -> value as text.
        steps: what training logged.
        training: how it ended.
        certificate, verdict, metrics: as their files have them.
        scored: the replay's rows with outcomes.
        seconds: stage -> seconds of wall time, in the order in which they finished first.
    """

    name: str
    path: Path
    settings: Mapping[str, str]
    steps: Sequence[LoggedStep]
    training: TrainSummary | None
    certificate: Certificate | None
    verdict: Verdict | None
    metrics: Metrics | None
    scored: pl.DataFrame | None
    seconds: Mapping[str, float]

    @property
    def peak_gib(self) -> float | None:
        """Peak GPU memory of the training, where it was logged."""
        return max((step.peak_gib for step in self.steps if step.peak_gib is not None), default=None)

    @property
    def eval_log_loss(self) -> float | None:
        """Log loss on the eval rows at the base rates, calibrated where there is a calibration."""
        if self.training is None:
            return None
        if self.training.calibration is not None:
            return self.training.calibration.log_loss
        found = self.training.eval.get("log_loss")
        return found if isinstance(found, float) else None

    @property
    def move(self) -> float:
        """`evaluate.move` of its verdict."""
        return float(self.settings.get("evaluate.move", Config().evaluate.move))

    @property
    def horizon(self) -> timedelta:
        """From a decision to its outcome."""
        candles = int(self.settings.get("labels.horizon", Config().labels.horizon))
        return timedelta(minutes=candles * timeframe_minutes(self.settings.get("data.timeframe", "1h")))


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """The run folders named: a folder without a manifest stands for those up to two levels below it.

    Raises:
        InputError: there is none.
    """
    found: list[Path] = []
    for path in paths:
        inner = sorted({manifest.parent for depth in ("*", "*/*") for manifest in path.glob(f"{depth}/{MANIFEST}")})
        runs = [path] if (path / MANIFEST).is_file() else [folder for folder in inner if _is_run(folder)]
        if not runs:
            raise InputError(f"{path}: no run folder (no {MANIFEST}); name folders that `candletune run` wrote")
        found += [run for run in runs if run.resolve() not in {other.resolve() for other in found}]
    return found


def _is_run(folder: Path) -> bool:
    """Neither a dataset's folder, whose manifest is another kind of file, nor where a base was written for all."""
    return folder.name != "dataset" and set(RunFolder(folder).manifest().stages) != {"base"}


def read_entrants(paths: Sequence[Path]) -> list[Entrant]:
    """Read the runs.

    Raises:
        InputError: a file of a run is broken.
    """
    return [read_entrant(path, name) for path, name in zip(paths, names_of(paths), strict=True)]


def names_of(paths: Sequence[Path]) -> list[str]:
    """The folders' own names; as many of the folders above as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    depth = [1] * len(paths)
    while True:
        names = ["/".join(part[-deep:]) for part, deep in zip(parts, depth, strict=True)]
        doubled = {name for name, count in Counter(names).items() if count > 1}
        if not doubled:
            return names
        depth = [deep + (name in doubled) for deep, name in zip(depth, names, strict=True)]


def read_entrant(path: Path, name: str) -> Entrant:
    """Read a run.

    Raises:
        InputError: one of its files is broken.
    """
    run = RunFolder(path)
    stages = run.manifest().stages
    settings: dict[str, str] = {}
    for entry in stages.values():
        settings |= _flat(entry.settings)
    return Entrant(
        name=name,
        path=path,
        settings=settings,
        steps=logged_steps(run.train_metrics),
        training=run.summary_if_done(TrainSummary),
        certificate=Certificate.read_if_there(run.certificate),
        verdict=Verdict.read_if_there(run.verdict),
        metrics=Metrics.read_if_there(run.metrics),
        scored=pl.read_parquet(run.scored) if run.scored.is_file() else None,
        seconds={stage: entry.seconds for stage, entry in stages.items()},
    )


def _flat(settings: Mapping[str, JsonValue]) -> dict[str, str]:
    """`table.key` -> the value as text."""
    found: dict[str, str] = {}
    for table, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        for key, item in inner.items():
            name = f"{table}.{key}" if key else table
            if not name.startswith(LEFT_OUT):
                found[name] = _shown(item)
    return found


def _shown(value: JsonValue) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing(entrants: Sequence[Entrant]) -> dict[str, list[str]]:
    """Settings that are not the same in every run, in the configuration's order, with each run's value."""
    order = {key: place for place, (key, _) in enumerate(leaves(Config))}
    keys = sorted({key for entrant in entrants for key in entrant.settings}, key=lambda key: order.get(key, len(order)))
    values = {key: [entrant.settings.get(key, _UNSET) for entrant in entrants] for key in keys}
    return {key: found for key, found in values.items() if len(set(found) - {_UNSET}) > 1}


def reference_of(entrants: Sequence[Entrant], wanted: str | None) -> Entrant:
    """The run that the others are held against: the one asked for, else the first.

    Raises:
        UsageError: no run has that name.
    """
    if wanted is None:
        return entrants[0]
    for entrant in entrants:
        if wanted == entrant.name or Path(wanted).resolve() == entrant.path.resolve():
            return entrant
    raise UsageError(f"--against {wanted}: not among the runs; there are {', '.join(e.name for e in entrants)}")
