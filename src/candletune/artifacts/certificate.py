"""`verify/verify.json`: whether the export answers as the trained model does, and what was noticed about the model."""

from typing import ClassVar

from candletune.artifacts.base import Artifact, Record
from candletune.decisions import Decision


class CertificateCriterion(Record):
    """One demand on the export; when it fails, the export is broken and nothing is replayed.

    Attributes:
        name: short, as tables show it.
        value: what was found.
        limit: what is demanded of it, in words.
        passed: whether it holds.
    """

    name: str
    value: float | str
    limit: str
    passed: bool

    @property
    def shown(self) -> str:
        """The value as people read it."""
        return self.value if isinstance(self.value, str) else f"{self.value:g}"


class CertificateFinding(Record):
    """Something noticed about the model rather than about its export: it is replayed and judged all the same.

    Attributes:
        name: short.
        value: what was found.
        expected: what one would expect, in words.
        explanation: what it means, and what to do about it.
    """

    name: str
    value: float
    expected: str
    explanation: str


class DecisionScores(Record):
    """Decisions against labels.

    Attributes:
        balanced_accuracy: mean recall of the classes that occur.
        log_loss: mean negative log of the label's calibrated probability, in nats.
    """

    balanced_accuracy: float
    log_loss: float


class Fidelity(Record):
    """The model as served beside the model as trained, on labelled eval rows at the base rates.

    Attributes:
        rows: labelled rows that both answered.
        storage: the frozen weights it was trained over: `gguf`, `nf4`, `fp4` or `none` (not quantized).
        trained: scores of the model as trained.
        served: scores of what llama.cpp serves.
        accuracy_lost: balanced accuracy as trained minus as served, of the same rows.
        interval: its 95 % interval.
        agreement: share of rows with the same decision.
        largest_gap: largest difference of a decision's probability.
    """

    rows: int
    storage: str
    trained: DecisionScores
    served: DecisionScores
    accuracy_lost: float
    interval: tuple[float, float]
    agreement: float
    largest_gap: float


class HeadlineShift(Record):
    """What headlines alone do: the same rows without any, with neutral and with hostile ones.

    Attributes:
        rows: of each.
        worst: kind of hostile headlines that turned the most decisions.
        turned: share of decisions that it turned.
        largest_gap: largest difference of a decision's probability that hostile headlines made.
        neutral_turned: share of decisions that neutral ones turned.
        by_kind: share of decisions turned, by kind.
    """

    rows: int
    worst: str
    turned: float
    largest_gap: float
    neutral_turned: float
    by_kind: dict[str, float]


class CertificateContent(Record):
    """What a certificate says.

    Attributes:
        passed: whether every criterion holds; findings have no say.
        file: the exported file, relative to the run folder.
        base: name of the base's GGUF.
        prompts: held-out prompts that were scored.
        criteria: in the order they were looked at.
        findings: what was noticed; empty in files from before there were any.
        shares: share of each decision among the prompts; None where nothing could be asked.
        chat: the chat format it was asked in; None where nothing could be asked, and in files from before it was kept.
        fidelity: what is served beside what was trained; None where that was not compared (`verify.reference`), where
            a probability is not a number, and in files from before it was.
        headlines: what headlines alone do; None where that was not asked, and in files from before it was.
        remedy: what to do about a criterion that fails; empty where none does, and in files from before it was kept.
    """

    passed: bool
    file: str
    base: str
    prompts: int
    criteria: tuple[CertificateCriterion, ...]
    findings: tuple[CertificateFinding, ...] = ()
    shares: dict[Decision, float] | None = None
    chat: dict[str, str] | None = None
    fidelity: Fidelity | None = None
    headlines: HeadlineShift | None = None
    remedy: str = ""


class Certificate(CertificateContent, Artifact):
    """The certificate of an export."""

    COMMAND: ClassVar[str] = "verify"
