"""The Unsloth engine, for those who have it: its model and kernels under our loss and loop.

It is slower than the fast engine (docs/speed.md) and covers more architectures.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.base.load import storage_of
from candletune.base.probabilities import decision_probabilities
from candletune.config import TrainConfig
from candletune.errors import InputError, UsageError
from candletune.training.engine import EngineKind, EngineSetup, FixedPlan, loss_with_gradients
from candletune.training.examples import TokenizedExample
from candletune.training.loss import answer_loss


def load_unsloth(path: Path, config: TrainConfig, device: str, seed: int) -> Any:
    """The 4-bit base with a fresh adapter, both made by Unsloth.

    Unsloth replaces parts of Transformers for the whole process: what compares with Transformers needs another one.

    Raises:
        UsageError: no GPU, no Unsloth, or a setting it does not have.
        InputError: it cannot load the folder.
    """
    if device != "cuda":
        raise UsageError("train.backend: unsloth needs a CUDA GPU; set train.backend=auto")
    if path.is_file():
        raise UsageError("train.backend: unsloth cannot train over a GGUF; set it to auto, or base.model to a folder")
    if config.quantization == "fp4":
        raise UsageError("train.quantization: unsloth has no fp4; set it to nf4 or none")
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from unsloth import FastLanguageModel
    except ImportError as error:
        raise UsageError(
            f"train.backend: unsloth cannot be imported ({' '.join(str(error).split())[:120]}); "
            "pip install unsloth, or set train.backend=auto"
        ) from None
    try:
        model, _ = FastLanguageModel.from_pretrained(
            str(path),
            max_seq_length=config.max_sequence_length,
            load_in_4bit=storage_of(config.quantization, path) == "nf4",
            dtype=torch.bfloat16 if config.bf16 else torch.float16,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: unsloth cannot load it ({' '.join(str(error).split())[:120]})") from None
    adapted = FastLanguageModel.get_peft_model(
        model,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        bias="none",
        use_gradient_checkpointing="unsloth" if config.gradient_checkpointing else False,
        random_state=seed,
    )
    return FastLanguageModel.for_training(adapted)


class UnslothEngine:
    """A `TrainingEngine` over Unsloth's model (or any PEFT-wrapped one); prompts are read whole."""

    name = "unsloth"
    checkpointing = False  # Unsloth's own is switched on where the model is made

    def __init__(self, model: Any, setup: EngineSetup) -> None:
        config = setup.config
        self.model, self.pad, self.say = model, setup.pad, setup.say
        self.call_size = config.effective_batch
        self.plan = FixedPlan(min(config.batch_size or config.effective_batch, config.effective_batch), "Unsloth")
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """See `TrainingEngine`.

        Raises:
            InputError: not even one example fits the memory.
        """
        while True:
            try:
                return self._loss(examples)
            except torch.OutOfMemoryError:
                pass
            self._halve(len(examples))

    def _loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        for parameter in self.parameters:
            parameter.grad = None
        total = torch.zeros((), device=self.parameters[0].device)
        for part in self._parts(examples):
            value, _ = answer_loss(self.model, part, self.pad, share=False)
            torch.autograd.backward(value)
            total += value.detach()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return loss_with_gradients(total, grads, self.parameters), float(
            sum(sum(example.weights) for example in examples)
        )

    def _parts(self, examples: Sequence[TokenizedExample]) -> list[Sequence[TokenizedExample]]:
        size = self.plan.micro_batch
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def _halve(self, examples: int) -> None:
        torch.cuda.empty_cache()
        micro = min(self.plan.micro_batch, examples)
        if micro <= 1:
            raise InputError(
                "GPU memory: one example does not fit; close other programs, lower train.max_sequence_length, or use a "
                "smaller base model"
            )
        self.plan = replace(self.plan, micro_batch=-(-micro // 2))
        self.say(f"out of GPU memory: repeating the step with micro-batch {self.plan.micro_batch}")

    @torch.no_grad()
    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """See `TrainingEngine`."""
        was_training = self.model.training
        self.model.eval()
        total = sum(float(answer_loss(self.model, part, self.pad, share=False)[0]) for part in self._parts(examples))
        self.model.train(was_training)
        return total, float(sum(sum(example.weights) for example in examples))

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """See `TrainingEngine`."""
        was_training = self.model.training
        self.model.eval()
        probabilities = decision_probabilities(
            self.model, prompts, tokens, pad=self.pad, batch_size=self.plan.micro_batch, share=False
        )
        self.model.train(was_training)
        return probabilities

    def close(self) -> None:
        """Nothing is held."""


ENGINE = EngineKind(open=UnslothEngine, load=load_unsloth)
