"""What an adapter was made from: `candletune.json` in its folder, and the manifest inside every GGUF of ours."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import JsonValue

from candletune.artifacts.base import Artifact, Record
from candletune.decisions import Decision

ClassShares = Mapping[Decision, float] | tuple[float, float, float]
"""By decision; of adapters from before that, in the order BUY, SELL, HOLD."""


class DecisionPolicy(Record):
    """How often the adapter was taught to call BUY or SELL; part of what it says first.

    Attributes:
        wanted: share of the decision times that it is to call.
        reached: share of the held-out rows that it calls.
        rows: held-out rows.
        steps: optimizer steps of the phase that taught it.
        offsets: log-odds that were added to BUY, SELL and HOLD, against what the balanced examples taught.
    """

    wanted: float
    reached: float
    rows: int
    steps: int
    offsets: tuple[float, float, float]


class ProbabilityCalibration(Record):
    """What turns the adapter's probabilities into how often each outcome happens; it never changes a decision.

    Attributes:
        temperature, offsets: see `candletune.calibration.Calibration`.
        rows: held-out rows at the base rates that it was fitted on.
        log_loss: mean, of the calibrated probabilities on those rows.
    """

    temperature: float
    offsets: tuple[float, float, float]
    rows: int
    log_loss: float


class AdapterRecord(Artifact):
    """`adapter/candletune.json`.

    Attributes:
        base: the configured name of the base.
        base_sha256: identity of the model: hash of base.model's folder where the base GGUF was written from it; of a
            given GGUF what that says it was written from, else of its bytes.
        base_gguf_sha256: hash of the GGUF that is served with it; None in a file of an earlier candletune.
        storage: how the base's weights lay in training: `gguf`, the blocks of that very file, or `nf4`, `fp4` or `none`
            of base.model; None in a file of an earlier candletune.
        template_sha256: hash of the prompt template.
        dataset_sha256: hash of the examples.
        train_end: when the last outcome was known, ISO 8601; nothing later was learned.
        class_prior: class shares of the train examples as they were weighed; under the objective `utility` the base
            rates.
        natural_prior: base rates of the train period.
        context_sources: context file -> share of the train examples it told something about; None in a file of an
            earlier candletune.
        decision_ids: tokens of BUY, SELL and HOLD.
        chat: the chat format, `before`, `after` and `end`; None in a file of an earlier candletune.
        seed: of the training.
        policy: how often it was taught to act; None: it was not, or by an earlier candletune.
        calibration: of its probabilities; None: none was fitted.
        train, labels: the settings.
    """

    COMMAND: ClassVar[str] = "train"
    FILE: ClassVar[str] = "candletune.json"

    base: str
    base_sha256: str
    template_sha256: str
    dataset_sha256: str
    train_end: str
    class_prior: ClassShares
    natural_prior: ClassShares
    context_sources: Mapping[str, float] | None = None
    decision_ids: tuple[int, ...]
    base_gguf_sha256: str | None = None
    storage: Literal["gguf", "nf4", "fp4", "none"] | None = None
    chat: Mapping[str, str] | None = None
    seed: int | None = None
    policy: DecisionPolicy | None = None
    calibration: ProbabilityCalibration | None = None
    train: Mapping[str, JsonValue] = {}
    labels: Mapping[str, JsonValue] = {}


class ModelManifest(Record):
    """The manifest inside a GGUF, its key `candletune.manifest`. What the file does not say is None.

    A base says its name, its hash and its chat; an adapter and a merged model say all. Class shares, calibration and
    chat are checked by those who use them, so that a file is refused for what is asked of it, not for the rest.

    Attributes:
        adapter_sha256: hash of the adapter's folder. The others: see `AdapterRecord`.
    """

    base: str | None = None
    base_sha256: str | None = None
    base_gguf_sha256: str | None = None
    storage: str | None = None
    template_sha256: str | None = None
    dataset_sha256: str | None = None
    train_end: str | None = None
    class_prior: JsonValue = None
    natural_prior: JsonValue = None
    decision_ids: tuple[int, ...] | None = None
    chat: JsonValue = None
    context_sources: Mapping[str, float] | None = None
    policy: JsonValue = None
    calibration: JsonValue = None
    adapter_sha256: str | None = None

    @classmethod
    def of_adapter(cls, record: AdapterRecord, adapter_sha256: str) -> "ModelManifest":
        """What an export of the adapter says."""
        content = record.model_dump(mode="json", include=set(cls.model_fields))
        for key in ("policy", "calibration"):
            if content[key] is None:
                del content[key]
        return cls(**content, adapter_sha256=adapter_sha256)

    def written(self) -> dict[str, JsonValue]:
        """The JSON object: only what was given."""
        return {"version": 1, **self.model_dump(mode="json", exclude_unset=True)}
