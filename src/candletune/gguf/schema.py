"""What a GGUF's metadata and tensors must be like, before llama.cpp sees the file.

llama.cpp ends the process where a key that it reads has another type (`GGML_ASSERT` in gguf.cpp), and reads past the
end where an array has. So every such key has its type here, and every tensor a type that can be multiplied with.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from candletune.gguf.reader import ARRAY, STRING

_UINT32, _INT32, _FLOAT32, _BOOL = 4, 5, 6, 7
_INTEGERS = frozenset({0, 1, 2, 3, 4, 5, 10, 11})
_NAMES = {STRING: "text", _UINT32: "uint32", _FLOAT32: "float32", _BOOL: "bool", _INT32: "int32"}
MAX_ADAPTER_METADATA = 4 * 2**20
"""Bytes before an adapter's tensors: it carries no vocabulary."""
ADAPTER_TYPES = frozenset({0, 1, 2, 3, 6, 7, 8, 30})
"""F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BF16 (ggml's numbers): what adapters are written in."""
NO_WEIGHTS = frozenset({9, 15, 24, 25, 26, 27, 28})
"""Q8_1, Q8_K, I8, I16, I32, I64, F64: nothing multiplies with a matrix of these."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key's type, and that of its entries where it is an array."""

    kinds: frozenset[int]
    entries: frozenset[int] = frozenset()

    @property
    def words(self) -> str:
        kinds = self.entries or self.kinds
        name = "an integer" if kinds == _INTEGERS else "/".join(_NAMES.get(kind, str(kind)) for kind in sorted(kinds))
        return f"an array of {name}" if self.entries else name


def _array(*kinds: int) -> _Key:
    return _Key(frozenset({ARRAY}), frozenset(kinds))


_TEXT, _WHOLE = _Key(frozenset({STRING})), _Key(_INTEGERS)
SCHEMA: Mapping[str, _Key] = {
    "general.architecture": _TEXT,
    "general.type": _TEXT,
    "general.name": _TEXT,
    "general.alignment": _Key(frozenset({_UINT32})),
    "general.file_type": _WHOLE,
    "general.quantization_version": _WHOLE,
    "adapter.type": _TEXT,
    "adapter.lora.alpha": _Key(frozenset({_FLOAT32})),
    "adapter.alora.invocation_tokens": _array(_UINT32),
    "candletune.manifest": _TEXT,
    "tokenizer.chat_template": _TEXT,
    "tokenizer.ggml.model": _TEXT,
    "tokenizer.ggml.pre": _TEXT,
    "tokenizer.ggml.tokens": _array(STRING),
    "tokenizer.ggml.merges": _array(STRING),
    "tokenizer.ggml.scores": _array(_FLOAT32),
    "tokenizer.ggml.token_type": _array(_INT32, _UINT32),
    "tokenizer.ggml.precompiled_charsmap": _array(0, 1),
    "tokenizer.ggml.add_bos_token": _Key(frozenset({_BOOL})),
    "tokenizer.ggml.add_eos_token": _Key(frozenset({_BOOL})),
    "tokenizer.ggml.add_space_prefix": _Key(frozenset({_BOOL})),
    **{f"tokenizer.ggml.{name}_token_id": _WHOLE for name in ("bos", "eos", "unknown", "padding")},
}


class Tensor(Protocol):
    """What is checked of a tensor; see `candletune.gguf.header.TensorEntry`."""

    @property
    def name(self) -> str: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def kind(self) -> int: ...


def check_key(key: str, kind: int, value: Any) -> None:
    """Refuse a key of another type than readers take it for.

    Raises:
        ValueError: it is.
    """
    if not key:
        raise ValueError("a metadata key without a name")
    expected = SCHEMA.get(key)
    if expected is None:
        return
    if kind not in expected.kinds or (expected.entries and value.kind not in expected.entries):
        raise ValueError(f"{key} is not {expected.words}")


def check_vocabulary(fields: Mapping[str, Any]) -> None:
    """Refuse arrays that llama.cpp goes through by the number of tokens, and that are shorter.

    Raises:
        ValueError: one is.
    """
    tokens = fields.get("tokenizer.ggml.tokens")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        if tokens is not None and key in fields and len(fields[key]) < len(tokens):
            raise ValueError(f"{key} has {len(fields[key])} entries for {len(tokens)} tokens")


def check_adapter_file(fields: Mapping[str, Any], tensors: Sequence[Tensor], metadata: int) -> None:
    """Refuse a LoRA that llama.cpp would refuse, or that would end it.

    Args:
        fields: metadata by key.
        tensors: descriptions.
        metadata: bytes before the tensors' data.

    Raises:
        ValueError: why.
    """
    if metadata > MAX_ADAPTER_METADATA:
        raise ValueError(f"{metadata >> 20} MiB before an adapter's tensors, {MAX_ADAPTER_METADATA >> 20} are the most")
    if fields.get("adapter.type") != "lora":
        raise ValueError(f"adapter.type is {str(fields.get('adapter.type'))[:40]!r}, expected 'lora'")
    alpha = fields.get("adapter.lora.alpha", 0.0)
    if not math.isfinite(alpha):
        raise ValueError(f"adapter.lora.alpha is {alpha}")
    by_name = {tensor.name: tensor for tensor in tensors}
    for tensor in tensors:
        if tensor.kind not in ADAPTER_TYPES:
            raise ValueError(f"tensor {tensor.name!r} is of type {tensor.kind}, in which no adapter is written")
        if not tensor.name.endswith("_norm.weight"):
            _check_half(tensor, by_name)


def _check_half(tensor: Tensor, by_name: Mapping[str, Tensor]) -> None:
    """Refuse what is no half of a pair of matrices that fit each other."""
    name, _, part = tensor.name.rpartition(".lora_")
    if part not in ("a", "b"):
        raise ValueError(f"tensor {tensor.name!r} is no part of a LoRA")
    if len(tensor.sizes) < 2:
        raise ValueError(f"tensor {tensor.name!r} is no matrix")
    if (other := by_name.get(f"{name}.lora_{'ab'[part == 'a']}")) is None:
        raise ValueError(f"tensor {tensor.name!r} lacks its other half")
    if part == "a" and not name.endswith("token_embd.weight") and tensor.sizes[1] != other.sizes[0]:
        raise ValueError(f"tensor {tensor.name!r} is of rank {tensor.sizes[1]}, its other half of {other.sizes[0]}")


def check_whole_model(tensors: Sequence[Tensor]) -> None:
    """Refuse a whole model with tensors that nothing can be multiplied with.

    Raises:
        ValueError: which one.
    """
    for tensor in tensors:
        if tensor.kind in NO_WEIGHTS and len(tensor.sizes) > 1:
            raise ValueError(f"tensor {tensor.name!r} is of type {tensor.kind}, which is none of weights")
