"""The decision's probabilities, from the logits at the decision token of any causal model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.base.prefix import hidden_states


def decoder_and_head(model: Any) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """The decoder of a causal model, PEFT-wrapped or not, and what makes its states (n, hidden) logits (n, words).

    Some architectures scale logits behind the head (Granite, Cohere) or cap them (Gemma 2).
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config
    scale = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    if scale == 1.0 and not cap:
        return inner.model, inner.lm_head

    def head(states: Tensor) -> Tensor:
        logits: Tensor = inner.lm_head(states) * scale
        return torch.tanh(logits / cap) * cap if cap else logits

    return inner.model, head


@torch.no_grad()
def decision_probabilities(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tokens: DecisionTokens,
    *,
    pad: int,
    batch_size: int = 32,
    share: bool = True,
) -> Tensor:
    """P(BUY, SELL, HOLD) at the decision token, shape (n, 3), float64, renormalised over the three.

    Args:
        model: causal model.
        prompts: prompt ids, without the answer; the decision prefix is added here.
        tokens: decision tokens.
        pad: pad id.
        batch_size: prompts a forward pass.
        share: whether to compute what all prompts of a pass begin with once.
    """
    decoder, head = decoder_and_head(model)
    batches = []
    for start in range(0, len(prompts), batch_size):
        ids = [[*prompt, *tokens.prefix] for prompt in prompts[start : start + batch_size]]
        states, shared = hidden_states(decoder, ids, pad, share=share)
        last = torch.tensor([len(row) - 1 - shared for row in ids], device=states.device)
        logits = head(states[torch.arange(len(ids), device=states.device), last])
        batches.append(logits[:, list(tokens.ids)].double().softmax(dim=-1).cpu())
    return torch.cat(batches) if batches else torch.zeros((0, 3), dtype=torch.float64)
