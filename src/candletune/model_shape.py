"""Sizes of a base model, from its config.json alone: what is supported is known before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from candletune.architectures import ARCHITECTURES, MISTRAL, Architecture, architecture_of
from candletune.errors import InputError
from candletune.files import read_json

_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_LLAMA3: Final = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts.

    Attributes:
        kind: `rope_type` of config.json.
        values: of `llama3`, in this order: factor, low_freq_factor, high_freq_factor, original context; else empty.
        partial: whether only a part of each head is rotated.
    """

    kind: str = "default"
    values: tuple[float, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Architecture and sizes of a model, from its config.json."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rms_epsilon: float
    rope_base: float
    sliding_window: int | None
    tied: bool
    architecture: Architecture = MISTRAL
    rope: RopeScaling = RopeScaling()

    @property
    def layer_parameters(self) -> int:
        """Weights of one decoder layer."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        norms = 2 * self.head_size if self.architecture.head_norms else 0
        biases = queries + 2 * keys if self.architecture.biases else 0
        return self.hidden * (2 * queries + 2 * keys + 3 * self.feed_forward + 2) + norms + biases

    @property
    def table_parameters(self) -> int:
        """Weights of the embedding and the head; one table when they are tied."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters_text(self) -> str:
        """The number of weights as people say it: 8 billion, 135 million."""
        count = self.parameters
        return f"{count / 1e9:.2g} billion" if count >= 1e9 else f"{count / 1e6:.3g} million"

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.layers * self.layer_parameters + self.table_parameters + self.hidden


def read_shape(base: Path) -> ModelShape:
    """The sizes of the base model in a Hugging Face folder.

    Raises:
        InputError: no config.json, another architecture, or a size missing or impossible.
    """
    path = base / "config.json"
    config: dict[str, Any] = read_json(path)  # Transformers' JSON, whose keys differ by architecture
    architecture = architecture_of(config)
    if architecture is None:
        named = (config.get("architectures") or [None])[0] or "unknown"
        known = ", ".join(entry.model_class for entry in ARCHITECTURES)
        raise InputError(
            f"{path}: architecture {named} (model type {config.get('model_type') or 'unknown'}) is not supported, its "
            f"adapter could not be exported; set base.model to a model of one of {known}"
        )
    for key in _SIZES:
        if not isinstance(config.get(key), int) or not 0 < config[key] < 2**24:
            raise InputError(f"{path}: {key} is {config.get(key)!r}, expected a positive integer")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads = config["num_attention_heads"]
    return ModelShape(
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or architecture.head_size or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        context=config.get("max_position_embeddings") or 4096,
        rms_epsilon=float(config.get("rms_norm_eps") or 1e-5),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        sliding_window=config.get("sliding_window") if config.get("use_sliding_window", True) else None,
        tied=bool(config.get("tie_word_embeddings")),
        architecture=architecture,
        rope=_rope_scaling(path, config, rope),
    )


def _rope_scaling(path: Path, config: dict[str, Any], rope: dict[str, Any]) -> RopeScaling:
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    values: tuple[float, ...] = ()
    if kind == "llama3":
        for key in _LLAMA3:
            if not isinstance(rope.get(key), int | float) or rope[key] <= 0:
                raise InputError(f"{path}: {key} of its rope scaling is {rope.get(key)!r}, expected a positive number")
        values = tuple(float(rope[key]) for key in _LLAMA3)
        if values[1] >= values[2]:
            raise InputError(f"{path}: low_freq_factor of its rope scaling is not below high_freq_factor")
    return RopeScaling(kind, values, partial=share not in (None, 1, 1.0))
