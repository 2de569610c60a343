"""How a run was made, from its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from candletune.journal import parse_time
from candletune.report.text import moment
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage as the page lists it."""

    name: str
    headline: str
    seconds: float
    finished: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything in the run.

    Attributes:
        stages: in the order in which they finished first.
        versions: package -> version.
        hashes: input or output -> SHA-256.
        settings: stage -> its settings.
        written: when the newest stage finished.
    """

    stages: tuple[FinishedStage, ...]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]
    settings: Mapping[str, Mapping[str, JsonValue]]
    written: str


def provenance(run: RunFolder) -> Provenance:
    """Stages, hashes, settings and versions, from the run's manifest."""
    stages = run.manifest().stages
    versions: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for entry in stages.values():
        versions |= entry.versions
        hashes |= {**entry.inputs, **entry.outputs}
    return Provenance(
        stages=tuple(
            FinishedStage(name, entry.headline, entry.seconds, moment(entry.finished)) for name, entry in stages.items()
        ),
        versions=dict(sorted(versions.items())),
        hashes=dict(sorted(hashes.items())),
        settings={name: entry.settings for name, entry in stages.items()},
        written=moment(max((parse_time(entry.finished) for entry in stages.values()), default=None)),
    )
