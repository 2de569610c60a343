"""Sizes of a base model from its GGUF's header, as `model_shape` reads them from a folder's config.json."""

from pathlib import Path
from typing import Any

from candletune.architectures import ARCHITECTURES, Architecture, architecture_of_gguf
from candletune.errors import InputError
from candletune.gguf.header import Header, read_header
from candletune.gguf.rope import ROPE_FACTORS
from candletune.model_shape import ModelShape, read_shape


def base_shape(base: Path) -> ModelShape:
    """The sizes of a base: a Hugging Face folder or a GGUF.

    Raises:
        InputError: see `read_shape` and `header_shape`.
    """
    return header_shape(read_header(base)) if base.is_file() else read_shape(base)


def header_shape(header: Header) -> ModelShape:
    """The sizes of a whole model.

    Raises:
        InputError: an adapter, an architecture that is not known in full, a size that is missing or impossible, or a
            rotary embedding that cannot be computed.
    """
    if header.is_adapter:
        raise InputError(f"{header.path}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF")
    architecture = _architecture(header)
    name = architecture.gguf

    def size(key: str, default: int | None = None) -> int:
        value = header.fields.get(f"{name}.{key}", default)
        if value is None:
            raise InputError(f"{header.path}: lacks {name}.{key}; it is no complete base model, download it again")
        if not isinstance(value, int) or not 0 < value < 2**24:
            raise InputError(f"{header.path}: {name}.{key} is {value!r}, expected a positive integer")
        return value

    tensors = {entry.name: entry for entry in header.tensors}
    hidden, heads = size("embedding_length"), size("attention.head_count")
    head_size = size("attention.key_length", hidden // heads)
    _check_rotary(header, name, head_size)
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.sizes) != 2:
        raise InputError(f"{header.path}: lacks token_embd.weight; it is no complete base model, download it again")
    return ModelShape(
        hidden=hidden,
        feed_forward=size("feed_forward_length"),
        layers=size("block_count"),
        heads=heads,
        kv_heads=size("attention.head_count_kv", heads),
        head_size=head_size,
        vocabulary=embedding.sizes[1],
        context=size("context_length"),
        rms_epsilon=_number(header, f"{name}.attention.layer_norm_rms_epsilon", None),
        rope_base=_number(header, f"{name}.rope.freq_base", 10_000.0),
        sliding_window=None,
        tied="output.weight" not in tensors,
        architecture=architecture,
    )


def untrainable(header: Header) -> str | None:
    """Why a base's blocks cannot be trained over, in words; None when they can."""
    from candletune.gguf.dequantize import BLOCK_TYPES
    from gguf import GGMLQuantizationType

    try:
        _architecture(header)
    except InputError as refused:
        return str(refused)
    for entry in header.tensors:
        kind = GGMLQuantizationType(entry.kind)
        if kind not in BLOCK_TYPES:
            known = ", ".join(known.name for known in BLOCK_TYPES)
            return (
                f"{header.path}: {entry.name} is of type {kind.name}, which cannot be trained over; use a base in one "
                f"of {known}"
            )
    return None


def _architecture(header: Header) -> Architecture:
    name = header.fields.get("general.architecture")
    found = architecture_of_gguf(name)
    if found is None:
        supported = ", ".join(sorted({entry.gguf for entry in ARCHITECTURES if entry.complete}))
        raise InputError(f"{header.path}: architecture {name!r} cannot be trained; supported are {supported}")
    return found


def _number(header: Header, key: str, default: float | None) -> float:
    value: Any = header.fields.get(key, default)
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{header.path}: {key} is {value!r}, expected a positive number")
    return float(value)


def _check_rotary(header: Header, name: str, head_size: int) -> None:
    """Refuse what would be computed differently from llama.cpp; Llama 3.1's scaling travels as a tensor."""
    kind = header.fields.get(f"{name}.rope.scaling.type", "none")
    factor = header.fields.get(f"{name}.rope.scaling.factor", 1.0)
    if kind != "none" and factor not in (0, 1) and not any(entry.name == ROPE_FACTORS for entry in header.tensors):
        raise InputError(f"{header.path}: its rotary embedding is scaled ({kind}), which cannot be trained over yet")
    turned = header.fields.get(f"{name}.rope.dimension_count", head_size)
    if turned != head_size:
        raise InputError(f"{header.path}: its rotary embedding turns {turned} of {head_size} numbers a head only")
