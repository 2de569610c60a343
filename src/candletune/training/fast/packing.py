"""Where every token of a micro-batch lies when the shared prefix is stored once and nothing is padded.

Packed order: the prefix all rows begin with, then each row's own tokens, row after row. A row's last token (EOS)
predicts nothing and is left out. Linear layers see one (T, features) matrix; only attention needs to know rows.
Symbols: see the package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from candletune.base.chat import common_prefix
from candletune.training.examples import TokenizedExample
from candletune.training.utility import DecisionTerms, decision_terms


class LossTerms(NamedTuple):
    """Terms of the loss.

    Attributes:
        positions: (n,) index among the A target positions.
        targets: (n,) token ids.
        weights: (n,) of their cross-entropies.
        decisions: those that carry a utility, which are not among the others.
    """

    positions: Tensor
    targets: Tensor
    weights: Tensor
    decisions: DecisionTerms

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in a fixed order."""
        return (*self[:3], *self.decisions)

    def to(self, device: torch.device) -> "LossTerms":
        """A copy on a device."""
        first, *others = (tensor.to(device) for tensor in self.tensors())
        targets, weights, *decisions = others
        return LossTerms(first, targets, weights, DecisionTerms(*decisions))


@dataclass(frozen=True, slots=True)
class Segments:
    """Which queries meet which keys: segment i's queries are the last `queries[i]` places of its `keys[i]` keys.

    Attributes:
        queries: query tokens a segment.
        keys: key tokens a segment, prefix included.
        cu_queries: cumulated queries, int32, shape (segments + 1,).
        cu_keys: cumulated keys, int32, shape (segments + 1,).
        key_index: packed index of each of the S keys, or None where the keys are the packed tokens as they lie.
        own_index: place among the S keys of each packed token behind the prefix, shape (T - P,).
        prefix_index: places of every segment's copy of the prefix, shape (copies, P).
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    cu_queries: Tensor
    cu_keys: Tensor
    key_index: Tensor | None
    own_index: Tensor | None
    prefix_index: Tensor | None

    def gather(self, packed: Tensor) -> Tensor:
        """Keys or values of the packed tokens (T, K, d), laid out segment by segment (S, K, d)."""
        return packed if self.key_index is None else packed[self.key_index]

    def reduce(self, gathered: Tensor) -> Tensor:
        """The transpose of `gather`: the prefix's gradient is the sum over its copies (in float32, a fixed order)."""
        if self.own_index is None or self.prefix_index is None:
            return gathered
        prefix = gathered[self.prefix_index].sum(dim=0, dtype=torch.float32).to(gathered.dtype)
        return torch.cat([prefix, gathered[self.own_index]])


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A packed micro-batch.

    Attributes:
        ids: packed token ids, shape (T,); on the host, unless the batch is one that a CUDA graph reads.
        positions: their positions, shape (T,).
        prefix: P, tokens shared by all rows, stored once.
        segments: attention of every layer but the last.
        last_segments: attention of the last layer, whose queries are the target positions only.
        target_index: packed indices of the tokens whose next token is asked for, shape (A,).
    """

    ids: Tensor
    positions: Tensor
    prefix: int
    segments: Segments
    last_segments: Segments
    target_index: Tensor

    @property
    def tokens(self) -> int:
        """T, packed tokens."""
        return len(self.ids)


def pack(rows: Sequence[Sequence[int]], targets: Sequence[int], device: torch.device) -> PackedBatch:
    """Pack rows of ids.

    Args:
        rows: ids to compute states for (a training row without its last token).
        targets: how many of a row's last tokens need an output, at least 1.
        device: where the index tensors go.
    """
    prefix = 0
    if len(rows) > 1:
        prefix = min(common_prefix(rows), min(len(row) - count for row, count in zip(rows, targets, strict=True)))
    own = [len(row) - prefix for row in rows]
    ids = np.concatenate([np.asarray(rows[0][:prefix], np.int64), *(np.asarray(r[prefix:], np.int64) for r in rows)])
    positions = np.concatenate([np.arange(prefix), *(np.arange(prefix, len(row)) for row in rows)])
    ends = prefix + np.cumsum(own)
    target_index = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, targets, strict=True)])
    return PackedBatch(
        ids=torch.from_numpy(ids),
        positions=_sent(positions, device),
        prefix=prefix,
        segments=_segments(own, own, prefix, device, lead=prefix > 0),
        last_segments=_segments(own, targets, prefix, device, lead=False),
        target_index=_sent(target_index, device),
    )


def pack_behind(rows: Sequence[Sequence[int]], beginning: int, device: torch.device) -> PackedBatch:
    """Pack rows of which only the last output is asked for, behind a beginning whose keys and values are known.

    The known ones stand before the packed tokens' own among the keys (see `LayerPass.before`).

    Args:
        rows: ids, those of the beginning included; at least one more each.
        beginning: P, how many ids all rows begin with.
        device: where the index tensors go.
    """
    own = [len(row) - beginning for row in rows]
    ids = np.concatenate([np.asarray(row[beginning:], np.int64) for row in rows])
    positions = np.concatenate([np.arange(beginning, len(row)) for row in rows])
    return PackedBatch(
        ids=torch.from_numpy(ids),
        positions=_sent(positions, device),
        prefix=0,
        segments=_segments(own, own, beginning, device, lead=False),
        last_segments=_segments(own, [1] * len(own), beginning, device, lead=False),
        target_index=_sent(np.cumsum(own) - 1, device),
    )


def training_rows(examples: Sequence[TokenizedExample]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Rows and target counts of training examples: every answer token is predicted from the token before it."""
    return [example.ids[:-1] for example in examples], [len(example.weights) for example in examples]


def loss_terms(examples: Sequence[TokenizedExample], device: torch.device | None = None) -> LossTerms:
    """What is asked of the A target positions.

    A soft decision asks one position for shares of several ids; one with a utility is a term of its own kind.
    """
    positions, targets, weights, decided = [], [], [], []
    index = 0
    for example in examples:
        for offset, weight in enumerate(example.weights):
            place = example.prompt_length + offset
            shares: Sequence[tuple[int, float]] = ((example.ids[place], 1.0),)
            if place == example.decision_index:
                shares = example.soft or shares
                if example.utility is not None:
                    decided.append(index)
                    shares = ()
            for token, share in shares:
                positions.append(index)
                targets.append(token)
                weights.append(weight * share)
            index += 1
    return LossTerms(
        torch.tensor(positions, dtype=torch.int64, device=device),
        torch.tensor(targets, dtype=torch.int64, device=device),
        torch.tensor(weights, dtype=torch.float32, device=device),
        decision_terms(examples, decided, device),
    )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """On its way to the device: a card that is still busy with the batch before is not waited for."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _sent(values: NDArray[Any], device: torch.device) -> Tensor:
    return send(torch.from_numpy(values), device)


def _segments(own: Sequence[int], targets: Sequence[int], prefix: int, device: torch.device, *, lead: bool) -> Segments:
    """Segments of all rows; `lead` puts the prefix itself in front as a segment of its own."""
    queries = [*([prefix] if lead else []), *targets]
    keys = [*([prefix] if lead else []), *(prefix + count for count in own)]
    key_starts = np.cumsum([0, *keys])

    key_index = own_index = prefix_index = None
    if prefix:
        starts = prefix + np.cumsum([0, *own])
        parts = [np.arange(prefix)] if lead else []
        for start, count in zip(starts, own, strict=False):
            parts += [np.arange(prefix), np.arange(start, start + count)]
        key_index = _sent(np.concatenate(parts), device)
        first = key_starts[1:-1] if lead else key_starts[:-1]
        places = np.concatenate([np.arange(s + prefix, s + prefix + n) for s, n in zip(first, own, strict=True)])
        own_index = _sent(places, device)
        prefix_index = _sent(key_starts[:-1, None] + np.arange(prefix)[None], device)
    cumulated = [_sent(np.cumsum([0, *counts]).astype(np.int32), device) for counts in (queries, keys)]
    return Segments(tuple(queries), tuple(keys), cumulated[0], cumulated[1], key_index, own_index, prefix_index)
