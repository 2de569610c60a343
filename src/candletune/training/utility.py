"""The utility objective: what a decision is expected to earn under the model's own probabilities, exact.

At the decision token let z be the logits of BUY, SELL and HOLD, p = softmax(z), and u what each of the three would have
earned (see `targets.action_gains`): all three are known from one outcome, so nothing is sampled. With w the weight that
takes the balance of the classes back, a the label's shares, H = -sum p_d log p_d, and a temperature T:

    U = sum p_d u_d                 dU/dz_d =  p_d (u_d - U)
    H = -sum p_d log p_d            dH/dz_d = -p_d (log p_d + H)
    C = -sum a_d log p_d            dC/dz_d =  p_d - a_d
    loss = (1 - s) C - s w (U + T H)

What is best for an hour whose outcome is not known yet is p = softmax(E[u] / T), the maximum-entropy policy (Ziebart et
al. 2008): the log-odds of two decisions are the difference of what they are expected to earn. The share s goes from 0
(the labels alone) to 1 in a warm-up. The three renormalised probabilities say nothing of the rest of the vocabulary, so
the term -log(P(BUY) + P(SELL) + P(HOLD)) is added; at s = 0 the sum is the usual cross-entropy. The gradients of both
sum to those of a cross-entropy over the vocabulary against t = p - dloss/dz, of which the engine without autograd makes
use. t sums to one and may leave [0, 1].
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from candletune.training.examples import TokenizedExample


class DecisionTerms(NamedTuple):
    """What is asked of D decisions.

    Attributes:
        positions: (D,) index of the state that predicts the decision.
        ids: (D, 3) tokens of BUY, SELL and HOLD.
        aims: (D, 3) the label's shares.
        gains: (D, 3) what each action earns.
        scales: (D, 4) loss weight, weight of the utility, share of the utility, temperature.
    """

    positions: Tensor
    ids: Tensor
    aims: Tensor
    gains: Tensor
    scales: Tensor

    def rows(self, rows: slice) -> "DecisionTerms":
        """Some of them."""
        return DecisionTerms(*(tensor[rows] for tensor in self))


def decision_terms(
    examples: Sequence[TokenizedExample], positions: Sequence[int], device: torch.device | None = None
) -> DecisionTerms:
    """Terms of the examples that carry a utility.

    Args:
        examples: a batch.
        positions: of each of those that carry one, in their order.
        device: where the tensors go.
    """
    asked = [(example, example.utility) for example in examples if example.utility is not None]
    scales = [
        (example.weights[example.decision_index - example.prompt_length], u.weight, u.share, u.temperature)
        for example, u in asked
    ]
    shape = (len(asked), 3)
    return DecisionTerms(
        torch.tensor(positions, dtype=torch.int64, device=device),
        torch.tensor([u.ids for _, u in asked], dtype=torch.int64, device=device).reshape(shape),
        torch.tensor([u.aims for _, u in asked], dtype=torch.float32, device=device).reshape(shape),
        torch.tensor([u.gains for _, u in asked], dtype=torch.float32, device=device).reshape(shape),
        torch.tensor(scales, dtype=torch.float32, device=device).reshape(len(asked), 4),
    )


def utility_loss(logits: Tensor, terms: DecisionTerms) -> Tensor:
    """The loss of D decisions from their three logits (D, 3), unweighted, (D,); see the module."""
    _, weight, share, temperature = terms.scales.unbind(-1)
    logs = logits.log_softmax(dim=-1)
    p = logs.exp()
    worth = (p * (terms.gains - temperature[:, None] * logs)).sum(-1)
    label = -(terms.aims * logs).sum(-1)
    return (1 - share) * label - share * weight * worth


def utility_targets(logits: Tensor, terms: DecisionTerms) -> Tensor:
    """The t of the module, (D, 3): cross-entropy against it has the gradient of the loss."""
    _, weight, share, temperature = terms.scales[:, None].unbind(-1)
    logs = logits.log_softmax(dim=-1)
    p = logs.exp()
    worth = terms.gains - temperature * logs  # the constant in its derivative drops out: sum dp_d = 0
    slope = (1 - share) * (p - terms.aims) - share * weight * p * (worth - (p * worth).sum(-1, keepdim=True))
    return p - slope


def decisions_loss(logits: Tensor, terms: DecisionTerms) -> Tensor:
    """Weighted sum over D decisions from whole rows of logits (D, V), for autograd."""
    three = logits.gather(1, terms.ids)
    outside = logits.logsumexp(-1) - three.logsumexp(-1)
    return ((outside + utility_loss(three, terms)) * terms.scales[:, 0]).sum()


def warm_share(step: int, steps: int, warmup: float) -> float:
    """Share of the utility at an optimizer step (from 0): it rises evenly over the first `warmup` of the steps."""
    rising = warmup * steps
    return 1.0 if step >= rising else step / rising


def with_share(examples: Sequence[TokenizedExample], share: float) -> list[TokenizedExample]:
    """The examples as a step of the warm-up asks them; what carries no utility stays as it is."""
    return [
        example if example.utility is None else replace(example, utility=replace(example.utility, share=share))
        for example in examples
    ]
