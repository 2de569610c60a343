"""`evaluation/verdict.json`: whether the candidate deserves to act, and why."""

from typing import ClassVar, Literal

from candletune.artifacts.base import Artifact, Record

VerdictName = Literal["promote", "keep", "not enough evidence"]
Source = Literal["replay", "shadow"]

_AT_MOST = frozenset({"flip rate", "largest class", "invalid answers", "drawdown", "flips"})
_ABOVE = frozenset({"rarest class", "gain beyond chance", "direction", "net return", "log score"})


class VerdictCriterion(Record):
    """One demand of the decision rule.

    Attributes:
        name: short, as tables show it.
        description: what the number is, in words.
        value: the number; None where it is undefined.
        interval: its interval, where it has one.
        limit: what it is held against.
        passed: None when it could not be asked, which blocks nothing.
        kind: `plan` (the plan's rule) or `evidence` (whether the numbers can be believed).
        unit: how numbers are shown; `nats` are differences of natural logarithms of probabilities.
        decides: whether the verdict counts it; the plan's bare numbers are shown beside what stands in for them.
    """

    name: str
    description: str
    value: float | None
    interval: tuple[float, float] | None
    limit: float
    passed: bool | None
    kind: Literal["plan", "evidence"]
    unit: Literal["points", "share", "count", "nats"]
    decides: bool = True

    @property
    def bound(self) -> str:
        """How the value is held against the limit: `at most`, `above` or `at least`."""
        if self.name in _AT_MOST:
            return "at most"
        return "above" if self.name in _ABOVE else "at least"


class JudgedModel(Record):
    """A model that was judged.

    Attributes:
        name: as tables and reports show it.
        adapter_sha256: hash of its GGUF; None for the bare base.
    """

    name: str
    adapter_sha256: str | None


class TrainingEnds(Record):
    """When the last outcome that each model learned from was known, ISO 8601 in UTC.

    None for the bare base, whose pretraining is not known, and where a model's file does not say.
    """

    candidate: str | None = None
    incumbent: str | None = None


class TrySpent(Record):
    """What a verdict spent of the error budget that all verdicts on the same candles share.

    Attributes:
        try_id: of the try in the ledger.
        number: of the try among those on the same candles; 1 for the first.
        level: error that this verdict may make: budget / (number (number + 1)).
        budget: error that all of them may make together.
        registered: when the try was registered, before its replay was run, which allows the bound of a single look;
            None: it was not, so its bound holds at every look.
    """

    try_id: str
    number: int
    level: float
    budget: float
    registered: str | None = None


class Verdict(Artifact):
    """The verdict of one evaluation.

    Attributes:
        verdict: promote, keep or not enough evidence.
        reason: why, in words.
        rule: `full`, or `plan` (the plan's three criteria alone).
        criteria: each demand with its number, interval and limit.
        candidate: the model that may be promoted.
        incumbent: the model that acts.
        forced: part of the rows was seen in training.
        rows: rows of the journal that were judged.
        notes: what the numbers mean beyond the criteria, in plain sentences.
        source: which kind of journal was judged.
        decided: when, ISO 8601 in UTC; empty in a file of an earlier candletune.
        training_ends: of both models, from their own files; empty in a file of an earlier candletune.
        spent: of the error budget; None when no outcome was known, and in a file of an earlier candletune.
    """

    COMMAND: ClassVar[str] = "evaluate"

    verdict: VerdictName
    reason: str
    rule: Literal["full", "plan"]
    criteria: tuple[VerdictCriterion, ...]
    candidate: JudgedModel
    incumbent: JudgedModel
    forced: bool
    rows: int
    notes: tuple[str, ...] = ()
    source: Source = "replay"
    decided: str = ""
    training_ends: TrainingEnds = TrainingEnds()
    spent: TrySpent | None = None
