"""Norms of each head of queries and keys, between their projection and the rotation (Qwen3).

Symbols and shapes: see the package. With u = W x the projection of one head, its queries are rope(norm(u)); the
gradient is norm'(u)^T rope^T g, `ops.rms_norm_backward` over rows of one head. Values pass through.
"""

import torch
from torch import Tensor

from candletune.training.fast.ops import Ops

HeadNorms = tuple[Tensor, Tensor]
"""Weights of the norms of queries and keys, (d,) each."""


def normalise_heads(flat: Tensor, norms: HeadNorms, eps: float, ops: Ops, counts: tuple[int, int]) -> None:
    """Normalise the heads of queries and keys in place.

    Args:
        flat: projections, (rows, (H + 2K) d); its values stay.
        norms: weights.
        eps: of the norms.
        ops: elementwise functions.
        counts: H and K; 0 for those that `flat` has none of.
    """
    for columns, weight in _parts(norms, counts):
        heads = flat[:, columns].reshape(-1, len(weight))
        flat[:, columns] = ops.rms_norm(heads, weight, eps).view(len(flat), -1)


def normalise_heads_backward(
    grad: Tensor, before: Tensor, norms: HeadNorms, eps: float, ops: Ops, counts: tuple[int, int]
) -> None:
    """The transpose of `normalise_heads`, in place.

    Args:
        grad: gradient of the normalised projections, (rows, (H + 2K) d).
        before: what was normalised, (rows, (H + K) d).
        norms: weights.
        eps: of the norms.
        ops: elementwise functions.
        counts: H and K, as in forward.
    """
    for columns, weight in _parts(norms, counts):
        heads = before[:, columns].reshape(-1, len(weight))
        back = grad[:, columns].reshape(-1, len(weight))
        grad[:, columns] = ops.rms_norm_backward(back, heads, weight, eps, torch.zeros_like(back)).view(len(grad), -1)


def _parts(norms: HeadNorms, counts: tuple[int, int]) -> list[tuple[slice, Tensor]]:
    """The columns of queries and of keys, with their weight; parts that are not there are left out."""
    width, (queries, keys) = len(norms[0]), counts
    parts = [(slice(0, queries * width), norms[0]), (slice(queries * width, (queries + keys) * width), norms[1])]
    return [(columns, weight) for columns, weight in parts if columns.stop > columns.start]
