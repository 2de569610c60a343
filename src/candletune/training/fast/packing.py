"""Where every token of a micro-batch lies when the shared prefix is stored once and nothing is padded.

Packed order: the prefix all rows begin with, then each row's own tokens, row after row. A row's last token (EOS)
predicts nothing and is left out. Linear layers see one (tokens, features) matrix; only attention needs to know rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from candletune.base.chat import common_prefix
from candletune.training.tokens import Weighted


@dataclass(frozen=True, slots=True)
class Segments:
    """Which queries meet which keys: segment i's queries are the last `queries[i]` places of its `keys[i]` keys.

    Attributes:
        queries: query tokens a segment.
        keys: key tokens a segment, prefix included.
        cu_queries: cumulated queries, int32, shape (segments + 1,).
        cu_keys: cumulated keys, int32, shape (segments + 1,).
        gather: packed index of each key, or None where the keys are the packed tokens as they lie.
        own: place among the gathered keys of each packed token behind the prefix.
        shared: places of every segment's copy of the prefix, shape (copies, prefix).
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    cu_queries: Tensor
    cu_keys: Tensor
    gather: Tensor | None
    own: Tensor | None
    shared: Tensor | None

    def spread(self, packed: Tensor) -> Tensor:
        """Keys or values of the packed tokens, laid out segment by segment."""
        return packed if self.gather is None else packed[self.gather]

    def collect(self, spread: Tensor) -> Tensor:
        """The transpose of `spread`: the prefix's gradient is the sum over its copies (in float32, a fixed order)."""
        if self.own is None or self.shared is None:
            return spread
        prefix = spread[self.shared].sum(dim=0, dtype=torch.float32).to(spread.dtype)
        return torch.cat([prefix, spread[self.own]])


@dataclass(frozen=True, slots=True)
class Layout:
    """A packed micro-batch.

    Attributes:
        ids: packed token ids (host), shape (tokens,).
        positions: their positions, shape (tokens,).
        prefix: tokens shared by all rows, stored once.
        body: attention of every layer but the last.
        last: attention of the last layer, whose queries are the picked tokens only.
        picked: packed indices of the tokens whose next token is asked for.
    """

    ids: NDArray[np.int64]
    positions: Tensor
    prefix: int
    body: Segments
    last: Segments
    picked: Tensor

    @property
    def tokens(self) -> int:
        """Packed tokens."""
        return len(self.ids)


def pack(rows: Sequence[Sequence[int]], asked: Sequence[int], device: torch.device) -> Layout:
    """Pack rows of ids.

    Args:
        rows: ids to compute states for (a training row without its last token).
        asked: how many of a row's last tokens need an output, at least 1.
        device: where the index tensors go.
    """
    prefix = 0
    if len(rows) > 1:
        prefix = min(common_prefix(rows), min(len(row) - want for row, want in zip(rows, asked, strict=True)))
    own = [len(row) - prefix for row in rows]
    ids = np.concatenate([np.asarray(rows[0][:prefix], np.int64), *(np.asarray(r[prefix:], np.int64) for r in rows)])
    positions = np.concatenate([np.arange(prefix), *(np.arange(prefix, len(row)) for row in rows)])
    ends = prefix + np.cumsum(own)
    picked = np.concatenate([np.arange(end - want, end) for end, want in zip(ends, asked, strict=True)])
    return Layout(
        ids=ids,
        positions=torch.from_numpy(positions).to(device),
        prefix=prefix,
        body=_segments(own, own, prefix, device, lead=prefix > 0),
        last=_segments(own, asked, prefix, device, lead=False),
        picked=torch.from_numpy(picked).to(device),
    )


def rows_of(examples: Sequence[Weighted]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Rows and asked counts of training examples: every answer token is predicted from the token before it."""
    return [example.ids[:-1] for example in examples], [len(example.weights) for example in examples]


def answers_of(examples: Sequence[Weighted]) -> tuple[list[int], list[int], list[float]]:
    """What is asked of the picked tokens: index among them, target id and weight of each term of the loss.

    A soft decision asks one token for shares of several ids.
    """
    places, targets, weights = [], [], []
    index = 0
    for example in examples:
        for offset, weight in enumerate(example.weights):
            position = example.prompt_length + offset
            asked: Sequence[tuple[int, float]] = ((example.ids[position], 1.0),)
            if example.soft and position == example.decision_index:
                asked = example.soft
            for token, share in asked:
                places.append(index)
                targets.append(token)
                weights.append(weight * share)
            index += 1
    return places, targets, weights


def packed_tokens(examples: Sequence[Weighted]) -> int:
    """How many packed tokens a micro-batch of these examples has."""
    rows, asked = rows_of(examples)
    prefix = 0
    if len(rows) > 1:
        prefix = min(common_prefix(rows), min(len(row) - want for row, want in zip(rows, asked, strict=True)))
    return prefix + sum(len(row) - prefix for row in rows)


def _segments(own: Sequence[int], asked: Sequence[int], prefix: int, device: torch.device, *, lead: bool) -> Segments:
    """Segments of all rows; `lead` puts the prefix itself in front as a segment of its own."""
    queries = [*([prefix] if lead else []), *asked]
    keys = [*([prefix] if lead else []), *(prefix + count for count in own)]
    places = np.cumsum([0, *keys])

    def index(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(device)

    gather = own_places = shared = None
    if prefix:
        starts = prefix + np.cumsum([0, *own])
        parts = [np.arange(prefix)] if lead else []
        for start, count in zip(starts, own, strict=False):
            parts += [np.arange(prefix), np.arange(start, start + count)]
        gather = index(np.concatenate(parts))
        first = places[1:-1] if lead else places[:-1]
        own_places = index(
            np.concatenate([np.arange(s + prefix, s + prefix + n) for s, n in zip(first, own, strict=True)])
        )
        shared = index(places[:-1, None] + np.arange(prefix)[None])
    cumulated = [index(np.cumsum([0, *counts]).astype(np.int64)).to(torch.int32) for counts in (queries, keys)]
    return Segments(tuple(queries), tuple(keys), cumulated[0], cumulated[1], gather, own_places, shared)
