"""The list of artefacts: whatever has a schema in docs/schemas."""

from candletune.artifacts import (
    AdapterRecord,
    Artifact,
    Certificate,
    DatasetAudit,
    DatasetManifest,
    DriftReference,
    DriftReport,
    InputLog,
    JournalImport,
    LiveState,
    Metrics,
    RunManifest,
    Verdict,
    Walk,
)
from candletune.artifacts.coins import Coins
from candletune.artifacts.sweep import Sweep

ARTIFACTS: tuple[type[Artifact], ...] = (
    AdapterRecord,
    Certificate,
    Coins,
    DatasetAudit,
    DatasetManifest,
    DriftReference,
    DriftReport,
    InputLog,
    JournalImport,
    LiveState,
    Metrics,
    RunManifest,
    Sweep,
    Verdict,
    Walk,
)
"""Every file with a schema of its own; add a new one here."""
