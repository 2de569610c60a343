"""The frozen weights as the fast engine uses them: related matrices stacked, packed ones expanded a layer at a time.

Packed are NF4 weights of bitsandbytes, and the blocks of a GGUF.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from candletune.base.packed import PackedEmbedding, PackedLinear, block_kernels, expand_into, expanded
from candletune.training.fast.head_norm import HeadNorms
from candletune.training.fast.packing import send

STACKS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Matrices that read the same input are one product."""


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One LoRA pair on the rows `start:stop` of a stack.

    Attributes:
        a: (rank, inputs), trained.
        b: (outputs, rank), trained.
        start: first output row in the stack.
        stop: row behind the last.
        scale: alpha / rank.
        dropout: rate.
        number: which dropout seed is its own.
    """

    a: Tensor
    b: Tensor
    start: int
    stop: int
    scale: float
    dropout: float
    number: int


class GradientSums:
    """Float32 sums of LoRA gradients, end to end in one tensor, found by the parameter's identity."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.flat = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float32, device=parameters[0].device)
        self.sums = dict(zip(map(id, parameters), self.of(parameters), strict=True))

    def add(self, parameter: Tensor, grad: Tensor) -> None:
        """Add one micro-batch's or chunk's part."""
        self.sums[id(parameter)].add_(grad)

    def of(self, parameters: list[Tensor], *, copy: bool = False) -> list[Tensor]:
        """The sums in the order of `parameters`; a copy where they go on being used."""
        parts = (self.flat.clone() if copy else self.flat).split([p.numel() for p in parameters])
        return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


@dataclass(frozen=True, slots=True)
class Stack:
    """One frozen product and its LoRA pairs.

    Attributes:
        weight: (outputs, inputs), expanded.
        loras: the pairs on its rows.
        bias: (outputs,), frozen; None: none.
    """

    weight: Tensor
    loras: list[LoraPair]
    bias: Tensor | None = None

    def split(self, row: int) -> "tuple[Stack, Stack]":
        """The rows before `row` and those from it on, each with its own pairs (none may lie across)."""
        before = [pair for pair in self.loras if pair.stop <= row]
        behind = [
            replace(pair, start=pair.start - row, stop=pair.stop - row) for pair in self.loras if pair.start >= row
        ]
        first, second = (None, None) if self.bias is None else (self.bias[:row], self.bias[row:])
        return Stack(self.weight[:row], before, first), Stack(self.weight[row:], behind, second)


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer taken apart.

    Attributes:
        linears: frozen modules by stack.
        loras: LoRA pairs by stack.
        norms: weights of the norms before attention and before the feed-forward part, (h,) each.
        eps: of all norms.
        sizes: output rows by stack.
        biases: frozen biases by stack, (outputs,) each; stacks without are left out.
        head_norms: weights of the norms of each head of queries and keys, (d,) each; None: they are not normalised.
    """

    linears: dict[str, list[Any]]
    loras: dict[str, list[LoraPair]]
    norms: tuple[Tensor, Tensor]
    eps: float
    sizes: dict[str, int]
    biases: dict[str, Tensor] = field(default_factory=dict)
    head_norms: HeadNorms | None = None


def base_linear(module: Any) -> Any:
    """The frozen linear layer inside a PEFT layer, or the module itself."""
    return getattr(module, "base_layer", module)


def read_layer(block: Any, first_number: int) -> Layer:
    """Take a decoder block apart.

    Args:
        block: a decoder layer of an architecture that `preflight.unsupported` lets through, PEFT layers injected.
        first_number: number of its first LoRA pair.
    """
    linears: dict[str, list[Any]] = {}
    loras: dict[str, list[LoraPair]] = {}
    sizes = {}
    number = first_number
    for stack, names in STACKS.items():
        owner = block.self_attn if stack in ("qkv", "o") else block.mlp
        row = 0
        linears[stack], loras[stack] = [], []
        for name in names:
            module = getattr(owner, name)
            linear = base_linear(module)
            if linear is not module:
                adapter = module.active_adapters[0]
                drop = module.lora_dropout[adapter]
                loras[stack].append(
                    LoraPair(
                        a=module.lora_A[adapter].weight,
                        b=module.lora_B[adapter].weight,
                        start=row,
                        stop=row + linear.out_features,
                        scale=float(module.scaling[adapter]),
                        dropout=float(getattr(drop, "p", 0.0)),
                        number=number,
                    )
                )
                number += 1
            linears[stack].append(linear)
            row += linear.out_features
        sizes[stack] = row
    norms = (block.input_layernorm.weight, block.post_attention_layernorm.weight)
    biases = {stack: bias for stack, parts in linears.items() if (bias := _joined_bias(parts)) is not None}
    attention = block.self_attn
    head_norms = (attention.q_norm.weight, attention.k_norm.weight) if hasattr(attention, "q_norm") else None
    return Layer(linears, loras, norms, float(block.input_layernorm.variance_epsilon), sizes, biases, head_norms)


def _joined_bias(linears: list[Any]) -> Tensor | None:
    """The biases of a stack end to end, zero where a layer has none; None where none has."""
    known = next((linear.bias for linear in linears if getattr(linear, "bias", None) is not None), None)
    if known is None:
        return None
    parts = [linear.bias if linear.bias is not None else known.new_zeros(linear.out_features) for linear in linears]
    return torch.cat([part.detach() for part in parts])


class ExpandedWeights:
    """Expands a layer's packed weights into buffers that all layers share, or keeps every layer expanded.

    Sharing is safe because everything runs in one stream's order. A layer that is asked for twice in a row (the last
    one at the turn from forward to backward) is expanded once.
    """

    def __init__(self, layers: list[Layer], dtype: torch.dtype, *, resident: bool) -> None:
        self.layers, self.dtype, self.resident = layers, dtype, resident
        self._expanded: dict[int, dict[str, Tensor]] = {}
        self._buffers: dict[str, Tensor] = {}
        self._current = -1

    def stacks(self, number: int) -> dict[str, Stack]:
        """Layer `number`'s products; the weights are good until another layer is asked for."""
        layer = self.layers[number]
        return {
            name: Stack(weight, layer.loras[name], layer.biases.get(name))
            for name, weight in self._expand(number).items()
        }

    def _expand(self, number: int) -> dict[str, Tensor]:
        """Layer `number`'s matrices, each (outputs, inputs) in the compute type."""
        if number in self._expanded:
            return self._expanded[number]
        if number != self._current or not self._buffers:
            layer = self.layers[number]
            if self.resident or not self._buffers:
                self._buffers = {
                    stack: torch.empty(
                        size, layer.linears[stack][0].in_features, dtype=self.dtype, device=_device(layer)
                    )
                    for stack, size in layer.sizes.items()
                }
            for stack, linears in layer.linears.items():
                _fill(self._buffers[stack], linears)
            self._current = number
            if self.resident:
                self._expanded[number] = self._buffers
        return self._buffers

    def forget_layer(self) -> None:
        """Expand anew whatever is asked for next: a CUDA graph may have written the buffers in the meantime."""
        self._current = -1

    def release(self) -> None:
        """Drop every expanded copy."""
        self._expanded, self._buffers, self._current = {}, {}, -1


def kernels_missing(layers: list[Layer]) -> str | None:
    """Why GGUF blocks that lie on a card are not expanded by kernels; None where they are, or nothing is packed so."""
    packed = any(isinstance(linear, PackedLinear) for parts in layers[0].linears.values() for linear in parts)
    return block_kernels(_device(layers[0]).type)[1] if packed else None


def _device(layer: Layer) -> torch.device:
    device: torch.device = layer.linears["o"][0].weight.device
    return device


def _fill(target: Tensor, linears: list[Any]) -> None:
    row = 0
    for linear in linears:
        part = target[row : row + linear.out_features]
        state = getattr(linear.weight, "quant_state", None)
        if isinstance(linear, PackedLinear):
            expand_into(part, linear.weight, linear.kind)
        elif state is None:
            part.copy_(linear.weight)
        else:
            from bitsandbytes.functional import dequantize_4bit

            if part.is_cuda and state.dtype == part.dtype:
                dequantize_4bit(linear.weight.data, state, out=part)
            else:
                part.copy_(dequantize_4bit(linear.weight.data, state))
        row += linear.out_features


def compute_type(embedding: Any) -> torch.dtype:
    """The type that a model computes in: its embedding's."""
    found: torch.dtype = embedding.dtype if isinstance(embedding, PackedEmbedding) else embedding.weight.dtype
    return found


def embed(embedding: Any, ids: Tensor, device: torch.device) -> Tensor:
    """Embeddings of packed tokens, (T, h), on a device; from host memory only the different rows travel.

    Args:
        embedding: the module, whose table may lie in host memory.
        ids: (T,).
        device: where the layers are.
    """
    table: Tensor = embedding.weight
    if table.device == device:
        return _numbers(embedding, table[send(ids, device)])
    different, places = torch.unique(ids, return_inverse=True)
    return _numbers(embedding, table[different].to(device))[places.to(device)]


def _numbers(embedding: Any, rows: Tensor) -> Tensor:
    if isinstance(embedding, PackedEmbedding):
        return expanded(rows, embedding.kind, embedding.embedding_dim, embedding.dtype)
    return rows


class HeadProduct:
    """Products with the head's matrix (V, h) and its transpose, in the compute type.

    Args:
        head: the module.
        dtype: the compute type.
        parts: a packed matrix is expanded in as many parts, anew for each product; 1: once and whole.
    """

    def __init__(self, head: Any, dtype: torch.dtype, parts: int) -> None:
        self.head = head
        self._whole: Tensor | None = head.weight
        if isinstance(head, PackedLinear):
            self._whole = head.expanded(dtype) if parts == 1 else None
        rows = -(-len(head.weight) // parts)
        self._edges = [(start, min(start + rows, len(head.weight))) for start in range(0, len(head.weight), rows)]
        self._buffer = head.weight.new_empty(rows, head.in_features, dtype=dtype) if self._whole is None else None

    def _part(self, start: int, stop: int) -> Tensor:
        """Rows of the matrix; good until others are asked for."""
        assert self._buffer is not None  # noqa: S101
        part: Tensor = self._buffer[: stop - start]
        expand_into(part, self.head.weight[start:stop], self.head.kind)
        return part

    def logits(self, states: Tensor) -> Tensor:
        """(n, h) -> (n, V)."""
        if self._whole is not None:
            return torch.mm(states, self._whole.t())
        logits = states.new_empty(len(states), len(self.head.weight))
        for start, stop in self._edges:
            torch.mm(states, self._part(start, stop).t(), out=logits[:, start:stop])
        return logits

    def transposed(self, grad: Tensor) -> Tensor:
        """(n, V) -> (n, h); parts are summed in float32."""
        if self._whole is not None:
            return torch.mm(grad, self._whole)
        total: Tensor = grad.new_zeros(len(grad), self.head.in_features, dtype=torch.float32)
        for start, stop in self._edges:
            total += grad[:, start:stop] @ self._part(start, stop)
        return total.to(grad.dtype)


def head_rows(head: Any, ids: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Some tokens' rows of the head's matrix, (n, h)."""
    rows: Tensor = head.weight[list(ids)]
    return expanded(rows, head.kind, head.in_features, dtype) if isinstance(head, PackedLinear) else rows
