"""The loss: weighted cross-entropy over the answer's tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from candletune.base.prefix import hidden_states
from candletune.base.probabilities import decoder_and_head
from candletune.training.examples import TokenizedExample
from candletune.training.utility import decision_terms, decisions_loss


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
    device = states.device
    total = torch.zeros((), device=device)
    terms = list(_terms(batch))
    if terms:
        rows, positions, targets, weights = zip(*terms, strict=True)
        places = torch.tensor(rows, device=device), torch.tensor(positions, device=device) - shared
        losses = cross_entropy(head(states[places]).float(), torch.tensor(targets, device=device), reduction="none")
        total = total + (losses * torch.tensor(weights, device=device)).sum()
    asked = [row for row, example in enumerate(batch) if example.utility is not None]
    if asked:
        decisions = decision_terms(batch, [batch[row].decision_index - 1 for row in asked], device)
        logits = head(states[torch.tensor(asked, device=device), decisions.positions - shared]).float()
        total = total + decisions_loss(logits, decisions)
    return total, float(sum(sum(example.weights) for example in batch))


def _terms(batch: Sequence[TokenizedExample]) -> Iterator[tuple[int, int, int, float]]:
    """(row, position of the prediction, target id, weight); a soft decision asks each of its ids for a share.

    A decision with a utility is not among them.
    """
    for row, example in enumerate(batch):
        for offset, weight in enumerate(example.weights):
            place = example.prompt_length + offset
            if place == example.decision_index and example.utility is not None:
                continue
            if example.soft and place == example.decision_index:
                yield from ((row, place - 1, token, weight * share) for token, share in example.soft)
            else:
                yield row, place - 1, example.ids[place], weight
