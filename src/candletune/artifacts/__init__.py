"""The JSON files that stages leave for each other and for other programs, one typed model each.

A model is frozen, knows its version, and is read and written here only. Its JSON schema is in docs/schemas, written by
`python docs/schemas/write.py`.
"""

from candletune.artifacts.adapter_record import AdapterRecord, DecisionPolicy, ModelManifest, ProbabilityCalibration
from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.certificate import (
    Certificate,
    CertificateCriterion,
    CertificateFinding,
    DecisionScores,
    Fidelity,
    HeadlineShift,
)
from candletune.artifacts.dataset import (
    CandidateRows,
    CandleFile,
    DatasetAudit,
    DatasetDescription,
    DatasetManifest,
    FieldRange,
)
from candletune.artifacts.drift import (
    DriftLevel,
    DriftReference,
    DriftReport,
    DriftWatch,
    InputCount,
    InputLog,
    LiveState,
    ServedModel,
    StateChange,
)
from candletune.artifacts.headlines import (
    HeadlineCounts,
    HeadlineCoverage,
    HeadlineRecords,
    MonthOfHeadlines,
    TickerHeadlines,
)
from candletune.artifacts.journal_import import JournalImport
from candletune.artifacts.metrics import Metrics, ReviewSummary
from candletune.artifacts.run_manifest import RunManifest, StageEntry
from candletune.artifacts.summaries import (
    AttainableScores,
    BaseSummary,
    BestAdapter,
    DatasetSummary,
    EvalFigures,
    EvaluateSummary,
    ExportSummary,
    LoggedStep,
    ReplaySummary,
    ReportSummary,
    StageSummary,
    TrainingResult,
    TrainSummary,
    VerifySummary,
)
from candletune.artifacts.verdict import JudgedModel, TrainingEnds, TrySpent, Verdict, VerdictCriterion
from candletune.artifacts.walk import FoldState, PeriodSide, Walk, WalkPeriod

__all__ = [
    "AdapterRecord",
    "Artifact",
    "AttainableScores",
    "BaseSummary",
    "BestAdapter",
    "CandidateRows",
    "CandleFile",
    "Certificate",
    "CertificateCriterion",
    "CertificateFinding",
    "DatasetAudit",
    "DatasetDescription",
    "DatasetManifest",
    "DatasetSummary",
    "DecisionPolicy",
    "DecisionScores",
    "DriftLevel",
    "DriftReference",
    "DriftReport",
    "DriftWatch",
    "EvalFigures",
    "EvaluateSummary",
    "ExportSummary",
    "Fidelity",
    "FieldRange",
    "FoldState",
    "HeadlineCounts",
    "HeadlineCoverage",
    "HeadlineRecords",
    "HeadlineShift",
    "InputCount",
    "InputLog",
    "JournalImport",
    "JudgedModel",
    "LiveState",
    "LoggedStep",
    "Metrics",
    "ModelManifest",
    "MonthOfHeadlines",
    "PeriodSide",
    "ProbabilityCalibration",
    "Record",
    "ReplaySummary",
    "ReportSummary",
    "ReviewSummary",
    "RunManifest",
    "ServedModel",
    "StageEntry",
    "StageSummary",
    "StateChange",
    "TickerHeadlines",
    "TrainSummary",
    "TrainingEnds",
    "TrainingResult",
    "TrySpent",
    "Verdict",
    "VerdictCriterion",
    "VerifySummary",
    "Walk",
    "WalkPeriod",
]
