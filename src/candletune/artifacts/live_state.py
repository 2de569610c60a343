"""The file `live.state`: which model acts, which ones acted before it, and every change."""

from typing import Any, ClassVar, Literal

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.verdict import JudgedModel


class ServedModel(Record):
    """A model that acts or acted.

    Attributes:
        name: as answers show it.
        kind: `adapter` (a LoRA over the base), `merged` (a whole model) or `base` (the base without an adapter).
        path: its file, relative to the state file's folder where it lies below; None for the bare base.
        adapter_sha256: the file's hash, an adapter's or a merged model's; None for the bare base.
        since: when it was put on record, ISO 8601 in UTC.
    """

    name: str
    kind: Literal["base", "adapter", "merged"]
    path: str | None
    adapter_sha256: str | None
    since: str


class StateChange(Record):
    """One promotion or rollback.

    Attributes:
        at: ISO 8601 in UTC.
        what: promote or rollback.
        before, after: who acted before it, and after it.
        reason: the verdict's, or the one given.
        forced: promoted without a verdict.
    """

    at: str
    what: Literal["promote", "rollback"]
    before: JudgedModel
    after: JudgedModel
    reason: str
    forced: bool


class LiveState(Artifact):
    """Who acts.

    Version 2 says of each model whether it is an adapter or a whole one, and calls a change's `from` and `to` `before`
    and `after`.

    Attributes:
        active: the model that acts.
        previous: the models that acted before, oldest first; a rollback takes the last.
        history: every change, oldest first.
    """

    VERSION: ClassVar[int] = 2
    COMMAND: ClassVar[str] = "promote"
    REMEDY: ClassVar[str] = "put back a copy of it, or move it away together with the adapters folder to start anew"

    active: ServedModel
    previous: tuple[ServedModel, ...] = ()
    history: tuple[StateChange, ...] = ()

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 1 knew adapters and the bare base only. What is no such file is left for the check to refuse."""

        def with_kind(model: Any) -> Any:
            if not isinstance(model, dict) or "path" not in model:
                return model
            return model | {"kind": "base" if model["path"] is None else "adapter"}

        def renamed(change: Any) -> Any:
            names = {"from": "before", "to": "after"}
            return {names.get(key, key): item for key, item in change.items()} if isinstance(change, dict) else change

        previous, history = value.get("previous"), value.get("history")
        return value | {
            "active": with_kind(value.get("active")),
            "previous": [with_kind(model) for model in previous] if isinstance(previous, list) else previous,
            "history": [renamed(change) for change in history] if isinstance(history, list) else history,
        }
