"""A GGUF as a Transformers model: configuration from its metadata, weights left in their blocks.

Only the architectures of `ARCHITECTURES` are built. Names come from gguf's own `TensorNameMap`. llama.cpp keeps the
query and key rows of its `llama` architecture interleaved for its rotary embedding; they are put back in order, which
moves whole rows of blocks and changes no bit.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

import gguf
from candletune.base.packed import PackedEmbedding, PackedLinear
from candletune.errors import InputError
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from candletune.gguf.header import Header, TensorEntry, read_header
from gguf import GGMLQuantizationType

ARCHITECTURES: Final = {
    "llama": ("llama", gguf.MODEL_ARCH.LLAMA),
    "qwen2": ("qwen2", gguf.MODEL_ARCH.QWEN2),
    "qwen3": ("qwen3", gguf.MODEL_ARCH.QWEN3),
}
"""`general.architecture` -> Transformers' model type, gguf's architecture. Mistral's GGUFs say `llama`."""


def config_of(header: Header) -> Any:
    """The Transformers configuration of a base GGUF.

    Raises:
        InputError: another architecture, or a size is missing.
    """
    from transformers import AutoConfig

    name = header.fields.get("general.architecture")
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"{header.path}: architecture {name!r} cannot be trained; supported are {known}")
    model_type, _ = ARCHITECTURES[name]

    def size(key: str, default: Any = None) -> Any:
        value = header.fields.get(f"{name}.{key}", default)
        if value is None:
            raise InputError(f"{header.path}: lacks {name}.{key}; it is no complete base model, download it again")
        return value

    names = {entry.name: entry for entry in header.tensors}
    hidden, heads = size("embedding_length"), size("attention.head_count")
    return AutoConfig.for_model(
        model_type,
        vocab_size=names["token_embd.weight"].sizes[1] if "token_embd.weight" in names else 0,
        hidden_size=hidden,
        intermediate_size=size("feed_forward_length"),
        num_hidden_layers=size("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=size("attention.head_count_kv", heads),
        head_dim=size("attention.key_length", hidden // heads),
        rms_norm_eps=size("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=size("context_length"),
        rope_parameters={"rope_type": "default", "rope_theta": size("rope.freq_base", 10_000.0)},
        tie_word_embeddings="output.weight" not in names,
        attention_bias="blk.0.attn_q.bias" in names,
    )


def load_packed(path: Path, device: str, dtype: torch.dtype) -> Any:
    """The base as a causal model on a device, its matrices packed as in the file.

    Args:
        path: the GGUF.
        device: `cpu` or `cuda`.
        dtype: of norms and of everything computed.

    Raises:
        InputError: not a base model of a known architecture, a tensor is missing, or its type cannot be expanded.
    """
    from transformers import AutoModelForCausalLM

    header = read_header(path)
    config = config_of(header)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    source = _Tensors(header, config, device)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            if name == "lm_head" and config.tie_word_embeddings:
                continue
            _replace(model, name, source.linear(name, module))
        elif isinstance(module, nn.Embedding):
            _replace(model, name, source.embedding(name, dtype))
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta and not (name == "lm_head.weight" and config.tie_word_embeddings):
            values = source.values(name.removesuffix(".weight"), name, dtype)
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, nn.Parameter(values, requires_grad=False))
    if config.tie_word_embeddings:
        embedding = model.get_input_embeddings()
        model.lm_head = PackedLinear(embedding.weight, embedding.kind, config.hidden_size)
    _rotate(model, source, config, device)
    model.config.use_cache = False
    return model.eval()


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, module)


def _rotate(model: Any, source: "_Tensors", config: Any, device: str) -> None:
    """The rotary embedding on the device; `rope_freqs` (Llama 3.1's scaling) divides its frequencies."""
    with torch.device(device):
        rotary = type(model.model.rotary_emb)(config)
    factors = source.optional("rope_freqs.weight")
    if factors is not None:
        rotary.inv_freq = rotary.inv_freq / factors.to(rotary.inv_freq)
        rotary.original_inv_freq = rotary.inv_freq
    model.model.rotary_emb = rotary


@dataclass
class _Tensors:
    """The file's tensors by Hugging Face name, read where they lie."""

    header: Header
    config: Any
    device: str

    def __post_init__(self) -> None:
        self.entries = {entry.name: entry for entry in self.header.tensors}
        self.data = np.memmap(self.header.path, mode="r", dtype=np.uint8)
        name = self.header.fields["general.architecture"]
        self.interleaved = name == "llama"
        self.names = gguf.get_tensor_name_map(ARCHITECTURES[name][1], self.config.num_hidden_layers)

    def entry(self, name: str, suffix: str = "weight") -> TensorEntry | None:
        """The entry of a module's tensor, or None."""
        stem = self.names.get_name(name)
        return None if stem is None else self.entries.get(f"{stem}.{suffix}")

    def blocks(self, entry: TensorEntry) -> Tensor:
        """A tensor's bytes (rows, bytes a row) on the device."""
        kind = GGMLQuantizationType(entry.kind)
        if kind not in BLOCK_TYPES:
            known = ", ".join(k.name for k in BLOCK_TYPES)
            raise InputError(
                f"{self.header.path}: {entry.name} is of type {kind.name}, which cannot be trained over; use a base in "
                f"one of {known}"
            )
        start = self.header.data_start + entry.offset
        rows = math.prod(entry.sizes[1:])
        taken = np.array(self.data[start : start + entry.nbytes].reshape(rows, -1))
        return torch.from_numpy(taken).to(self.device)

    def need(self, name: str) -> TensorEntry:
        """The weight of a module.

        Raises:
            InputError: the file lacks it.
        """
        entry = self.entry(name)
        if entry is None:
            raise InputError(f"{self.header.path}: lacks the weights of {name}; download the base again")
        return entry

    def linear(self, name: str, module: nn.Linear) -> PackedLinear:
        """A linear layer, rows in Transformers' order."""
        entry = self.need(name)
        wanted = (module.in_features, module.out_features)
        if entry.sizes != wanted:
            raise InputError(f"{self.header.path}: {entry.name} is {entry.sizes}, expected {wanted}; download it again")
        blocks = self._in_order(name, self.blocks(entry))
        bias = self.entry(name, "bias")
        numbers = None if bias is None else self._in_order(name, self._numbers(bias))
        return PackedLinear(blocks, GGMLQuantizationType(entry.kind), module.in_features, numbers)

    def embedding(self, name: str, dtype: torch.dtype) -> PackedEmbedding:
        """The token embedding."""
        entry = self.need(name)
        return PackedEmbedding(self.blocks(entry), GGMLQuantizationType(entry.kind), entry.sizes[0], dtype)

    def values(self, module: str, name: str, dtype: torch.dtype) -> Tensor:
        """A small tensor (a norm) as numbers."""
        entry = self.entry(module)
        if entry is None:
            raise InputError(f"{self.header.path}: lacks {name}; download the base again")
        return self._numbers(entry).to(dtype)

    def optional(self, name: str) -> Tensor | None:
        """A tensor by its GGUF name, as numbers, where the file has it."""
        entry = self.entries.get(name)
        return None if entry is None else self._numbers(entry)

    def _numbers(self, entry: TensorEntry) -> Tensor:
        return dequantize(self.blocks(entry), GGMLQuantizationType(entry.kind)).reshape(entry.sizes[::-1])

    def _in_order(self, name: str, rows: Tensor) -> Tensor:
        """Undo llama.cpp's interleaving of a head's halves."""
        if not self.interleaved or not name.endswith(("q_proj", "k_proj")):
            return rows
        heads = self.config.num_attention_heads if name.endswith("q_proj") else self.config.num_key_value_heads
        half = len(rows) // heads // 2
        return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape).contiguous()
