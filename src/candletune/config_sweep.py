"""The tables of `candletune sweep`: which settings are tried, and what stands in for the language model."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from candletune.config_types import Positive, Table

Choice = bool | int | float | str | tuple[str, ...]
"""A value of a setting."""


class Range(Table):
    """Numbers between two ends; for `sweep.method = "optuna"` alone."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    log: bool = Field(False, description="drawn evenly by its logarithm")

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 with log = true")
        return self


def _listed(value: Any) -> Any:
    if not isinstance(value, dict | list | tuple | Range):
        raise ValueError("expected a list of values, or { low = .., high = .. }")
    return value


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "list"


Choices = Annotated[
    Annotated[tuple[Choice, ...], Field(min_length=1), Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
    BeforeValidator(_listed),
]
"""What a setting may be."""


class SweepConfig(Table):
    """The sweep: settings that are tried on the eval split; any other key of the table is a setting with its values."""

    method: Literal["grid", "optuna"] = Field(
        "grid", description="grid: every combination; optuna: a search (extra `sweep`)"
    )
    trials: int = Field(0, ge=0, le=10_000, description="combinations tried at most; 0: the whole grid, 20 of a search")
    prune: bool = Field(
        True, description="stop a training whose eval log loss lies above the median of the trials before it"
    )
    model: Literal["llm", "boosting"] = Field(
        "llm", description="boosting: gradient boosting stands in for the language model, in a second a trial"
    )
    ray: str = Field(
        "", description="spread trials over a Ray cluster: its address, or auto (a running one, else this machine)"
    )
    settings: dict[str, Choices] = Field(
        {}, description='what is tried: `"train.lora_rank" = [8, 16]`; a search also takes { low = 1e-5, high = 1e-3 }'
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_are_settings(cls, values: Any) -> Any:
        """`"train.lora_rank" = [..]` and `train.lora_rank = [..]` directly in the table."""
        if not isinstance(values, dict):
            return values
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        found = dict(own.get("settings") or {})
        for key, value in values.items():
            if key not in cls.model_fields:
                if "." not in key and not isinstance(value, dict):
                    raise ValueError(f"sweep.{key}: unknown key; a setting is named in full, such as train.lora_rank")
                found |= _flat(key, value)
        return own | {"settings": found} if found else own


def _flat(key: str, value: Any) -> dict[str, object]:
    """A nested table as `table.key`; a range stays one."""
    if not isinstance(value, dict) or "low" in value:
        return {key: value}
    found: dict[str, object] = {}
    for name, item in value.items():
        found |= _flat(f"{key}.{name}", item)
    return found


class BoostingConfig(Table):
    """Gradient boosting where it stands in for the language model; the baseline keeps these defaults."""

    max_iter: Positive = Field(60, description="trees of each class")
    max_leaf_nodes: Annotated[int, Field(ge=2, le=1024)] = Field(8, description="leaves of a tree")
    learning_rate: float = Field(0.03, gt=0, le=1, description="share of each tree that counts")
    min_samples_leaf: Positive = Field(60, description="examples in a leaf at least")
    l2_regularization: float = Field(10.0, ge=0, description="penalty of large leaves")
