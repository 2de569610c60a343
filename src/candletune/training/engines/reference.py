"""The reference engine: Transformers and PEFT as they are, driven by Hugging Face's Trainer.

Every other engine is compared with this one, and it runs wherever they do not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig
from candletune.training.adapter import load_with_adapter, trained_device
from candletune.training.engine import EngineKind, EngineSetup, FixedPlan
from candletune.training.examples import TokenizedExample
from candletune.training.loss import answer_loss

EVALUATION_BATCH = 32


def micro_batch(config: TrainConfig, device: str) -> int:
    """Examples a forward pass: as configured, else the whole effective batch on a CPU and a quarter of it on a GPU."""
    if config.batch_size:
        return config.batch_size
    return config.effective_batch if device == "cpu" else max(1, config.effective_batch // 4)


class ReferenceEngine:
    """A `TrainingEngine` whose gradients are autograd's, micro-batch by micro-batch as the Trainer hands them over."""

    name = "reference"

    def __init__(self, model: Any, setup: EngineSetup) -> None:
        device = trained_device(model).type
        self.model, self.pad = model, setup.pad
        self.plan = FixedPlan(micro_batch(setup.config, device))
        self.call_size = self.plan.micro_batch
        self.checkpointing = setup.config.gradient_checkpointing and device == "cuda"

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """See `TrainingEngine`."""
        return answer_loss(self.model, examples, self.pad)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """See `TrainingEngine`."""
        was_training = self.model.training
        self.model.eval()
        total = weight = 0.0
        for start in range(0, len(examples), EVALUATION_BATCH):
            loss, weights = answer_loss(self.model, examples[start : start + EVALUATION_BATCH], self.pad)
            total += float(loss)
            weight += weights
        self.model.train(was_training)
        return total, weight

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """See `TrainingEngine`."""
        was_training = self.model.training
        self.model.eval()
        probabilities = decision_probabilities(self.model, prompts, tokens, pad=self.pad)
        self.model.train(was_training)
        return probabilities

    def close(self) -> None:
        """Nothing is held."""


ENGINE = EngineKind(open=ReferenceEngine, load=load_with_adapter, automatic=("cpu", "cuda"), preference=0)
