"""A GGUF as a Transformers model: configuration from its metadata, weights left in their blocks.

Only architectures that are known in full (`candletune.architectures`) are built. Names and the order of rows come from
`candletune.gguf.names`; putting rows in Transformers' order moves whole rows of blocks and changes no bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candletune.base.packed import PackedEmbedding, PackedLinear
from candletune.errors import InputError
from candletune.gguf.dequantize import BLOCK_TYPES, dequantize
from candletune.gguf.header import Header, TensorEntry, read_header
from candletune.gguf.names import LINEAR_LAYERS, expected_sizes, gguf_name, in_transformers_order, module_of
from candletune.gguf.shape import header_shape
from candletune.model_shape import ModelShape
from gguf import GGMLQuantizationType


def config_of(header: Header) -> Any:
    """The Transformers configuration of a base GGUF.

    Raises:
        InputError: see `candletune.gguf.shape.header_shape`.
    """
    from transformers import AutoConfig

    shape = header_shape(header)
    found = AutoConfig.for_model(
        shape.architecture.model_type,
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        rms_norm_eps=shape.rms_epsilon,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=shape.tied,
        attention_bias=any(entry.name == "blk.0.attn_q.bias" for entry in header.tensors),
    )
    found.architectures = [shape.architecture.model_class]
    return found


def check_packed(path: Path, adapted: Sequence[str]) -> ModelShape:
    """Refuse, before anything is trained, a base GGUF that could not be; only its header is read.

    Args:
        path: the GGUF.
        adapted: linear layers that are to be trained (`train.target_modules`).

    Raises:
        InputError: another architecture, a matrix is missing or of another size or of a type that cannot be expanded,
            or a layer to adapt does not exist.
    """
    header = read_header(path)
    shape = header_shape(header)
    if unknown := [name for name in adapted if name not in LINEAR_LAYERS]:
        raise InputError(
            f"train.target_modules: {path.name} has no {unknown[0]}; choose among {', '.join(LINEAR_LAYERS)}"
        )
    source = _Tensors(header, shape, "cpu")
    for layer in range(shape.layers):
        for name in LINEAR_LAYERS:
            rows, columns = expected_sizes(name, shape)
            source.checked(module_of(layer, name), (columns, rows))
    for name in ("model.embed_tokens", *(() if shape.tied else ("lm_head",))):
        source.checked(name, (shape.hidden, shape.vocabulary))
    return shape


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
    shape, config = header_shape(header), config_of(header)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    source = _Tensors(header, shape, device)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            if name == "lm_head" and config.tie_word_embeddings:
                continue
            _replace(model, name, source.linear(name, module, dtype))
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
    model.name_or_path = str(path)
    return model.eval()


def expand_packed(model: Any, dtype: torch.dtype) -> None:
    """Replace every packed matrix of a model by its numbers, once: faster where memory allows."""
    tied = model.config.tie_word_embeddings
    for name, module in list(model.named_modules()):
        if isinstance(module, PackedEmbedding):
            weight = dequantize(module.weight, module.kind).to(dtype)
            _replace(model, name, nn.Embedding.from_pretrained(weight, freeze=True))
        elif isinstance(module, PackedLinear) and not (tied and name == "lm_head"):
            _replace(model, name, _plain(module.expanded(dtype), module.bias))
    if tied:
        _replace(model, "lm_head", _plain(model.get_input_embeddings().weight, None))


def _plain(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen linear layer over these numbers."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


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


class Staging:
    """Two pinned buffers through which bytes reach a card: while one travels, the other is filled from the file."""

    def __init__(self, size: int = 2**26) -> None:
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available()) for _ in range(2)]
        self._sent: list[Any] = [None, None]
        self._next = 0

    def to_device(self, source: Tensor, device: str) -> Tensor:
        """A copy of bytes (rows, bytes a row) on a card.

        Work that the card was given before stays in order; the copy is complete for whatever is launched after it.
        """
        target = torch.empty(source.shape, dtype=torch.uint8, device=device)
        for part, place in zip(
            source.view(-1).split(len(self._buffers[0])), target.view(-1).split(len(self._buffers[0])), strict=True
        ):
            turn, self._next = self._next, 1 - self._next
            if self._sent[turn] is not None:
                self._sent[turn].synchronize()
            buffer = self._buffers[turn][: len(part)]
            buffer.copy_(part)
            place.copy_(buffer, non_blocking=True)
            if torch.cuda.is_available():
                self._sent[turn] = torch.cuda.current_stream().record_event()
        return target


@dataclass
class _Tensors:
    """The file's tensors by Hugging Face name, read where they lie."""

    header: Header
    shape: ModelShape
    device: str

    def __post_init__(self) -> None:
        self.entries = {entry.name: entry for entry in self.header.tensors}
        # Copy on write: nothing writes, but torch wants memory that could be written.
        self.data = np.memmap(self.header.path, mode="c", dtype=np.uint8)
        self._staging = Staging() if self.device != "cpu" else None

    def entry(self, name: str, suffix: str = "weight") -> TensorEntry | None:
        """The entry of a module's tensor, or None."""
        found = gguf_name(f"{name}.{suffix}", self.shape)
        return None if found is None else self.entries.get(found)

    def blocks(self, entry: TensorEntry) -> Tensor:
        """A tensor's bytes (rows, bytes a row) on the device; on a CPU they stay where the file is mapped."""
        self._check_kind(entry)
        start = self.header.data_start + entry.offset
        mapped = torch.from_numpy(self.data[start : start + entry.nbytes].reshape(math.prod(entry.sizes[1:]), -1))
        return mapped if self._staging is None else self._staging.to_device(mapped, self.device)

    def _check_kind(self, entry: TensorEntry) -> None:
        kind = GGMLQuantizationType(entry.kind)
        if kind not in BLOCK_TYPES:
            known = ", ".join(k.name for k in BLOCK_TYPES)
            raise InputError(
                f"{self.header.path}: {entry.name} is of type {kind.name}, which cannot be trained over; use a base in "
                f"one of {known}"
            )

    def checked(self, name: str, wanted: tuple[int, int]) -> TensorEntry:
        """The weight of a module, of these sizes (inputs, outputs) and of a type that can be expanded.

        Raises:
            InputError: it is none of that.
        """
        entry = self.need(name)
        if entry.sizes != wanted:
            raise InputError(f"{self.header.path}: {entry.name} is {entry.sizes}, expected {wanted}; download it again")
        self._check_kind(entry)
        return entry

    def need(self, name: str) -> TensorEntry:
        """The weight of a module.

        Raises:
            InputError: the file lacks it.
        """
        entry = self.entry(name)
        if entry is None:
            raise InputError(f"{self.header.path}: lacks the weights of {name}; download the base again")
        return entry

    def linear(self, name: str, module: nn.Linear, dtype: torch.dtype) -> PackedLinear:
        """A linear layer, rows in Transformers' order."""
        entry = self.checked(name, (module.in_features, module.out_features))
        blocks = in_transformers_order(name, self.blocks(entry), self.shape)
        bias = self.entry(name, "bias")
        numbers = None if bias is None else in_transformers_order(name, self._numbers(bias), self.shape).to(dtype)
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
