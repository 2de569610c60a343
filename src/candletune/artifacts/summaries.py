"""What each stage says of itself in the run's manifest."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import ConfigDict, JsonValue

from candletune.artifacts.adapter_record import DecisionPolicy, ProbabilityCalibration
from candletune.artifacts.base import Record
from candletune.artifacts.certificate import CertificateContent
from candletune.artifacts.dataset import DatasetFacts
from candletune.artifacts.replay_control import ReplayControl
from candletune.artifacts.verdict import JudgedModel, TrainingEnds, VerdictName


class StageSummary(Record):
    """What any stage says.

    Attributes:
        STAGE: the stage's name in the manifest; empty: any stage's.
        headline: one line for people; empty when there is nothing to say.
    """

    STAGE: ClassVar[str] = ""

    headline: str = ""


class BaseSummary(StageSummary):
    """The base stage's.

    Attributes:
        file: the GGUF that is served: relative to the run folder where it was written there.
        sha256: hash of the file.
        bytes: its size.
        type: llama.cpp's name of its type; empty: it does not say.
        written: whether the stage wrote it; else it was given.
        seconds: of wall time.
    """

    STAGE: ClassVar[str] = "base"

    file: str
    sha256: str
    bytes: int
    type: str
    written: bool
    seconds: float = 0.0


class DatasetSummary(DatasetFacts, StageSummary):
    """The dataset stage's: its manifest, but for the long tables."""

    STAGE: ClassVar[str] = "dataset"


class EvalFigures(Record):
    """Decisions of a model in training on held-out rows; what could not be measured is left out of the file.

    Attributes:
        rows: at the base rates.
        accuracy: share of right decisions.
        balanced_accuracy: mean of the classes' recalls.
        recall: class -> share of its rows that were decided so.
        shares: class -> share of the decisions.
        log_loss: mean, of the three decisions' probabilities.
        loss: weighted mean of the answers' loss over the eval split.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # a loss may blow up, which the training then tells

    rows: int
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    recall: Mapping[str, float] | None = None
    shares: Mapping[str, float]
    log_loss: float | None = None
    loss: float | None = None

    def figures(self) -> dict[str, float | dict[str, float]]:
        """By name, only those that were measured."""
        measured: dict[str, float | dict[str, float]] = self.model_dump(exclude_none=True)
        return measured


class AttainableScores(Record):
    """`attainable.json`: what nobody can beat on a simulated market.

    Attributes:
        settings: the market's; others make it anew.
        balanced: the best balanced accuracy.
        signals: of the best BUY and SELL calls, the share that was right.
        without_text: the best balanced accuracy of anyone who reads no headline; None: the market has none.
    """

    settings: Mapping[str, JsonValue]
    balanced: float
    signals: float
    without_text: float | None = None


class LoggedStep(Record):
    """What is drawn of a line in `train/metrics.jsonl`: a step's loss, or an evaluation."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)

    step: int | None = None
    loss: float | None = None
    peak_gib: float | None = None
    eval_accuracy: float | None = None
    eval_balanced_accuracy: float | None = None
    eval_log_loss: float | None = None


class BestAdapter(Record):
    """The adapter that early stopping keeps, beside it on disk.

    Attributes:
        step: optimizer step it is from.
        loss: what was compared.
        eval: its figures; None: an earlier candletune did not keep them.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # a loss may blow up, which the training then tells

    step: int
    loss: float
    eval: EvalFigures | None = None

    def record(self) -> dict[str, float | dict[str, float | dict[str, float]]]:
        """The JSON object beside the adapter."""
        kept: dict[str, float | dict[str, float | dict[str, float]]] = {"step": self.step, "loss": self.loss}
        return kept if self.eval is None else kept | {"eval": self.eval.figures()}


class TrainingResult(Record):
    """What a training came to.

    Attributes:
        steps: optimizer steps.
        best_step: step of the adapter that was kept with early stopping, else None.
        train_loss: mean loss over the steps.
        batch_size: examples a pass, in the end.
        backend: the engine's name.
        plan: the engine's way of working; empty when it planned nothing.
    """

    steps: int
    best_step: int | None
    train_loss: float
    batch_size: int
    backend: str
    plan: str


class TrainSummary(TrainingResult, StageSummary):
    """The train stage's; `train/summary.json` holds the same.

    Attributes:
        device: `cuda` or `cpu`.
        shortened: prompts that lost headlines.
        eval: `EvalFigures.figures` of the kept adapter, before it was taught how often to act.
        policy, calibration: see `AdapterRecord`.
    """

    STAGE: ClassVar[str] = "train"

    device: str
    shortened: int
    eval: Mapping[str, int | float | Mapping[str, float]]
    policy: DecisionPolicy | None = None
    calibration: ProbabilityCalibration | None = None


class ExportSummary(StageSummary):
    """The export stage's; what an earlier candletune did not write is empty.

    Attributes:
        kind: what was written, a LoRA or a merged model.
        name: its versioned name.
        file: relative to the run folder.
        sha256: hash of the file; None: not known.
        bytes: its size.
        fallback_reason: why it is a merged model though an adapter was asked for; else empty.
        seconds: of wall time.
    """

    STAGE: ClassVar[str] = "export"

    kind: Literal["adapter", "merged"]
    name: str = ""
    file: str = ""
    sha256: str | None = None
    bytes: int = 0
    fallback_reason: str = ""
    seconds: float = 0.0

    @property
    def merged(self) -> bool:
        """Whether a whole model was written."""
        return self.kind == "merged"


class VerifySummary(CertificateContent, StageSummary):
    """The verify stage's: the certificate."""

    STAGE: ClassVar[str] = "verify"


class ReplaySummary(StageSummary):
    """The replay stage's.

    Attributes:
        rows: of the journal.
        forced: part of them was seen in training.
        start, end: first and last decision time, ISO 8601.
        incumbent, candidate: who answered.
        incumbent_from: where the incumbent is named; empty: an earlier candletune did not say.
        training_ends: of both, from their files.
        control: PyTorch's decisions held against llama.cpp's; None: llama.cpp decided, and nothing else was asked.
        seconds: of wall time.
    """

    STAGE: ClassVar[str] = "replay"

    rows: int
    forced: bool
    start: str
    end: str
    incumbent: JudgedModel
    candidate: JudgedModel
    incumbent_from: str = ""
    training_ends: TrainingEnds = TrainingEnds()
    control: ReplayControl | None = None
    seconds: float


class EvaluateSummary(StageSummary):
    """The evaluate stage's.

    Attributes:
        verdict: promote, keep or not enough evidence.
        reason: why, in words.
        rows: rows of the journal that were judged.
    """

    STAGE: ClassVar[str] = "evaluate"

    verdict: VerdictName
    reason: str
    rows: int


class ReportSummary(StageSummary):
    """The report stage's.

    Attributes:
        path: of the page.
        bytes: its size.
    """

    STAGE: ClassVar[str] = "report"

    path: str
    bytes: int
