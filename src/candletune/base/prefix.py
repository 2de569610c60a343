"""Tokens that every example of a batch begins with are computed once.

Exact for a causal model: the leading tokens' keys and values depend on nothing behind them. The prefix runs as a batch
of one, its keys and values are broadcast (not copied) over the rows, and gradients of all rows flow back into it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import common_prefix
from candletune.base.memory import execution_device


def hidden_states(decoder: Any, ids: Sequence[Sequence[int]], pad: int, *, share: bool = True) -> tuple[Tensor, int]:
    """Last hidden states behind the rows' common prefix.

    Args:
        decoder: the model without its head (`MistralModel` and the like), PEFT layers injected or not.
        ids: token ids a row; rows may differ in length (shorter ones are padded at the end, which no real token sees).
        pad: id to pad with.
        share: whether to compute the common prefix once.

    Returns:
        Hidden states of shape (rows, longest - prefix, hidden) and the prefix length. At least one token a row stays
        outside the prefix, and one before it, so that a single row works too.
    """
    device = execution_device(decoder)
    shared = min(common_prefix(ids), min(len(row) for row in ids) - 1) if share and len(ids) > 1 else 0
    if decoder.training and any(getattr(module, "gradient_checkpointing", False) for module in decoder.modules()):
        shared = 0  # a layer that is computed again is called without its cache
    width = max(len(row) for row in ids)
    rows = torch.tensor([[*row[shared:], *[pad] * (width - len(row))] for row in ids], device=device)
    if shared == 0:
        return decoder(input_ids=rows, use_cache=False).last_hidden_state, 0
    head = torch.tensor([list(ids[0][:shared])], device=device)
    cache = decoder(input_ids=head, use_cache=True).past_key_values
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)
        layer.values = layer.values.expand(len(ids), -1, -1, -1)
    positions = torch.arange(shared, width, device=device)[None]
    states = decoder(input_ids=rows, past_key_values=cache, position_ids=positions, use_cache=True).last_hidden_state
    return states, shared
