"""What an adapter was made from: `candletune.json` in its folder, and the manifest inside every GGUF of ours."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue

from candletune.artifacts.base import Artifact, Record
from candletune.decisions import Decision

ClassShares = Mapping[Decision, float] | tuple[float, float, float]
"""By decision; of adapters from before that, in the order BUY, SELL, HOLD."""


class AdapterRecord(Artifact):
    """`adapter/candletune.json`.

    Attributes:
        base: the configured name of the base.
        base_sha256: hash of its weights.
        template_sha256: hash of the prompt template.
        dataset_sha256: hash of the examples.
        train_end: when the last outcome was known, ISO 8601; nothing later was learned.
        class_prior: class shares of the train examples.
        natural_prior: base rates of the train period.
        context_sources: context file -> share of the train examples it told something about; None in a file of an
            earlier candletune.
        decision_ids: tokens of BUY, SELL and HOLD.
        chat: the chat format, `before`, `after` and `end`; None in a file of an earlier candletune.
        seed: of the training.
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
    chat: Mapping[str, str] | None = None
    seed: int | None = None
    train: Mapping[str, JsonValue] = {}
    labels: Mapping[str, JsonValue] = {}


class ModelManifest(Record):
    """The manifest inside a GGUF, its key `candletune.manifest`. What the file does not say is None.

    A base says its name, its hash and its chat; an adapter and a merged model say all. Class shares and chat are
    checked by those who use them, so that a file is refused for what is asked of it, not for the rest.

    Attributes:
        adapter_sha256: hash of the adapter's folder. The others: see `AdapterRecord`.
    """

    base: str | None = None
    base_sha256: str | None = None
    template_sha256: str | None = None
    dataset_sha256: str | None = None
    train_end: str | None = None
    class_prior: JsonValue = None
    natural_prior: JsonValue = None
    decision_ids: tuple[int, ...] | None = None
    chat: JsonValue = None
    context_sources: Mapping[str, float] | None = None
    adapter_sha256: str | None = None

    @classmethod
    def of_adapter(cls, record: AdapterRecord, adapter_sha256: str) -> "ModelManifest":
        """What an export of the adapter says."""
        content = record.model_dump(mode="json", include=set(cls.model_fields))
        return cls(**content, adapter_sha256=adapter_sha256)

    def written(self) -> dict[str, JsonValue]:
        """The JSON object: only what was given."""
        return {"version": 1, **self.model_dump(mode="json", exclude_unset=True)}
