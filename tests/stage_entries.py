"""Puts a finished stage into a run's manifest without running it."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from candletune.artifacts import RunManifest, StageEntry, StageSummary
from candletune.runs import RunFolder

FINISHED = datetime(2026, 1, 1, tzinfo=UTC)


def entry_of(
    summary: StageSummary, *, finished: datetime = FINISHED, settings: Mapping[str, JsonValue] | None = None
) -> StageEntry:
    """An entry with that summary, made from nothing."""
    return StageEntry(
        fingerprint="-",
        inputs={},
        settings=settings or {},
        outputs={},
        summary=summary.model_dump(mode="json"),
        seconds=1.0,
        finished=finished.isoformat(),
        versions={},
    )


def record_stage(run: RunFolder, summary: StageSummary) -> RunManifest:
    """Write the entry under the summary's stage."""
    manifest = run.manifest().with_stage(summary.STAGE, entry_of(summary))
    manifest.write(run.manifest_file)
    return manifest
