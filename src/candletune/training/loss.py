"""The loss: weighted cross-entropy over the answer's tokens, and the decision's probabilities."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from candletune.base.chat import DecisionTokens
from candletune.base.prefix import hidden_states
from candletune.training.tokens import Weighted


def decoder_and_head(model: Any) -> tuple[Any, Any]:
    """The decoder (without head) and the head of a causal model, PEFT-wrapped or not."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.model, inner.lm_head


def answer_loss(model: Any, batch: Sequence[Weighted], pad: int, *, share: bool = True) -> tuple[Tensor, float]:
    """Sum of weighted token losses over a batch, and the sum of the weights.

    Logits are made only where an answer token is predicted: a 131,072-word vocabulary over whole prompts is gigabytes.

    Args:
        model: causal model.
        batch: examples.
        pad: pad id.
        share: whether to compute what all prompts begin with once.
    """
    decoder, head = decoder_and_head(model)
    states, shared = hidden_states(decoder, [example.ids for example in batch], pad, share=share)
    rows, places, targets, weights = zip(*_asked(batch), strict=True)
    device = states.device
    weight = torch.tensor(weights, device=device)
    logits = head(states[torch.tensor(rows, device=device), torch.tensor(places, device=device) - shared]).float()
    losses = cross_entropy(logits, torch.tensor(targets, device=device), reduction="none")
    return (losses * weight).sum(), float(weight.sum())


def _asked(batch: Sequence[Weighted]) -> Iterator[tuple[int, int, int, float]]:
    """(row, position of the prediction, target id, weight); a soft decision asks each of its ids for a share."""
    for row, example in enumerate(batch):
        for offset, weight in enumerate(example.weights):
            place = example.prompt_length + offset
            if example.soft and place == example.decision_index:
                yield from ((row, place - 1, token, weight * share) for token, share in example.soft)
            else:
                yield row, place - 1, example.ids[place], weight


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
    found = []
    for start in range(0, len(prompts), batch_size):
        ids = [[*prompt, *tokens.prefix] for prompt in prompts[start : start + batch_size]]
        states, shared = hidden_states(decoder, ids, pad, share=share)
        last = torch.tensor([len(row) - 1 - shared for row in ids], device=states.device)
        logits = head(states[torch.arange(len(ids), device=states.device), last])
        found.append(logits[:, list(tokens.ids)].double().softmax(dim=-1).cpu())
    return torch.cat(found) if found else torch.zeros((0, 3), dtype=torch.float64)
