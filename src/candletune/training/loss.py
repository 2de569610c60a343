"""The loss: weighted cross-entropy over the answer's tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from candletune.base.prefix import hidden_states
from candletune.base.probabilities import decoder_and_head
from candletune.training.examples import TokenizedExample


def answer_loss(model: Any, batch: Sequence[TokenizedExample], pad: int, *, share: bool = True) -> tuple[Tensor, float]:
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
    rows, positions, targets, weights = zip(*_terms(batch), strict=True)
    device = states.device
    weight = torch.tensor(weights, device=device)
    logits = head(states[torch.tensor(rows, device=device), torch.tensor(positions, device=device) - shared]).float()
    losses = cross_entropy(logits, torch.tensor(targets, device=device), reduction="none")
    return (losses * weight).sum(), float(weight.sum())


def _terms(batch: Sequence[TokenizedExample]) -> Iterator[tuple[int, int, int, float]]:
    """(row, position of the prediction, target id, weight); a soft decision asks each of its ids for a share."""
    for row, example in enumerate(batch):
        for offset, weight in enumerate(example.weights):
            place = example.prompt_length + offset
            if example.soft and place == example.decision_index:
                yield from ((row, place - 1, token, weight * share) for token, share in example.soft)
            else:
                yield row, place - 1, example.ids[place], weight
