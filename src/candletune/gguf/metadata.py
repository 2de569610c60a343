"""What a whole model's GGUF says of its sizes, and of each tensor, before the data."""

from typing import Any

import numpy as np

from candletune.model_shape import ModelShape

PLAIN_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
"""`general.file_type` by number format (llama.cpp's LLAMA_FTYPE numbers); every other type is quantized."""


def add_shape(writer: Any, shape: ModelShape, name: str, file_type: int) -> None:
    """Write a whole model's type, name and sizes.

    Args:
        writer: a `gguf.GGUFWriter`.
        shape: the sizes.
        name: `general.name`.
        file_type: `general.file_type`, see `candletune.gguf.quantize.file_type`.
    """
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.rms_epsilon)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_file_type(file_type)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_info(writer: Any, name: str, sizes: tuple[int, ...], kind: Any) -> None:
    """Announce a tensor.

    Args:
        writer: a `gguf.GGUFWriter`.
        name: llama.cpp's.
        sizes: rows first.
        kind: a `gguf.GGMLQuantizationType`.
    """
    import gguf

    plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    stored = sizes if plain else gguf.quant_shape_to_byte_shape(sizes, kind)
    nbytes = int(np.prod(stored)) * np.dtype(plain or np.uint8).itemsize
    writer.add_tensor_info(name, stored, np.dtype(plain or np.uint8), nbytes, raw_dtype=kind)
