"""Sizes of a base model, from its config.json alone: what is supported is known before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candletune.errors import InputError
from candletune.files import read_json

ARCHITECTURES = ("MistralForCausalLM", "LlamaForCausalLM")
MODEL_TYPES = ("mistral", "llama")
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Llama-type model, from its config.json."""

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

    @property
    def layer_parameters(self) -> int:
        """Weights of one decoder layer."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return self.hidden * (2 * queries + 2 * keys + 3 * self.feed_forward + 2)

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
    config: dict[str, Any] = read_json(path)
    architecture, model_type = (config.get("architectures") or [None])[0], config.get("model_type")
    known = architecture in (None, *ARCHITECTURES) and model_type in (None, *MODEL_TYPES)
    if not known or architecture is model_type is None:
        raise InputError(
            f"{path}: architecture {architecture or 'unknown'} (model type {model_type or 'unknown'}) is not "
            f"supported, its adapter could not be exported; set base.model to a {' or '.join(ARCHITECTURES)} model"
        )
    for key in _SIZES:
        if not isinstance(config.get(key), int) or not 0 < config[key] < 2**24:
            raise InputError(f"{path}: {key} is {config.get(key)!r}, expected a positive integer")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise InputError(f"{path}: rope scaling {rope.get('rope_type')} cannot be exported; use llama.cpp's converter")
    heads = config["num_attention_heads"]
    return ModelShape(
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        context=config.get("max_position_embeddings") or 4096,
        rms_epsilon=float(config.get("rms_norm_eps") or 1e-5),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        sliding_window=config.get("sliding_window"),
        tied=bool(config.get("tie_word_embeddings")),
    )
