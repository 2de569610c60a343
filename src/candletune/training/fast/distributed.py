"""Data parallel by `torch.distributed`: any number of processes, on one host or several, inside one training.

Process 0 trains: the Trainer, its optimizer, checkpoints and resuming stay there and know nothing of the others. Each
step it sends the LoRA weights, every process works through its part of the effective batch, all gradients are gathered
and process 0 adds them up in the processes' order: what one process would compute, but for the order of the sum. Frozen
weights never travel; each process loads the base. GPUs talk through NCCL, CPUs through gloo.
What the others do is in `following`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.training.engine import loss_with_gradients
from candletune.training.examples import TokenizedExample
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.plan import Plan
from candletune.training.fast.seats import Seat, told_to_begin

LONGEST = timedelta(days=7)
"""Between two steps process 0 may evaluate for long; a process that is gone is noticed by its closed connections."""
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Share:
    """What every process starts from.

    Attributes:
        base: the base model's file or folder, as process 0 has it.
        sha256: of its content.
        config: training settings.
        examples: all training examples; the longest decide each process's memory plan.
        batch: examples an optimizer step of one process.
    """

    base: Path
    sha256: str
    config: TrainConfig
    examples: list[TokenizedExample]
    batch: int


def join(seat: Seat, *, cuda: bool) -> None:
    """Enter the process group, once all have come."""
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=seat.store("group"),
        rank=seat.number,
        world_size=seat.count,
        timeout=LONGEST,
    )


def leave() -> None:
    """Leave it; the others may be gone."""
    with suppress(RuntimeError, ValueError, AssertionError):
        dist.destroy_process_group()


class DistributedEngine:
    """A fast engine whose steps are shared with other processes; the same interface as `FastEngine`. For process 0."""

    name = "fast"
    checkpointing = False

    def __init__(self, engine: FastEngine, share: Share, seat: Seat) -> None:
        """Enter the group, and wait until the others have loaded the base.

        Args:
            engine: this process's engine.
            share: what the others start from.
            seat: this process's place.

        Raises:
            InputError: one of them cannot load the base, has another or too little memory.
        """
        self.engine, self._seat = engine, seat
        self.call_size = engine.call_size
        told_to_begin(seat, begin=True)
        join(seat, cuda=engine.device.type == "cuda")
        try:
            dist.broadcast_object_list([share], src=0, device=CPU)
            refusals: list[str | None] = [None] * seat.count
            dist.all_gather_object(refusals, None)
        except RuntimeError as error:
            raise self._broken(error) from None
        for number, refusal in enumerate(refusals):
            if refusal is not None:
                leave()
                raise InputError(f"training, process {number} of {seat.count}: {refusal}")

    @property
    def model(self) -> Any:
        """This process's model."""
        return self.engine.model

    @property
    def plan(self) -> Plan:
        """This process's memory plan."""
        return self.engine.plan

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """As `FastEngine.loss`, with the work shared.

        Raises:
            InputError: another process ended.
        """
        seed = int(torch.randint(2**31 - 1, (1,)))
        cuts = cuts_of(len(examples), self.engine.plan.micro_batch, self._seat.count)
        step = Step([list(examples[a:b]) for a, b in pairwise(cuts)], cuts, seed, self._training)
        try:
            dist.broadcast_object_list([step], src=0, device=CPU)
            dist.broadcast(torch.cat([p.detach().flatten() for p in self.engine.parameters]), src=0)
            total, sums = shared_step(self.engine, step, 0)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._broken(error) from None
        parts = sums.split([parameter.numel() for parameter in self.engine.parameters])
        grads = [part.view(p.shape) for part, p in zip(parts, self.engine.parameters, strict=True)]
        weight = sum(sum(example.weights) for example in examples)
        return loss_with_gradients(total, grads, self.engine.parameters), float(weight)

    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """As `FastEngine.evaluate`, in this process."""
        return self.engine.evaluate(examples)

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """As `FastEngine.decision_probabilities`, in this process."""
        return self.engine.decision_probabilities(prompts, tokens)

    def close(self) -> None:
        """Send the others home and give the model back."""
        with suppress(RuntimeError, ValueError):
            dist.broadcast_object_list([None], src=0, device=CPU)
        leave()
        self.engine.close()

    @property
    def _training(self) -> bool:
        return bool(self.engine.model.training)

    def _broken(self, error: RuntimeError) -> InputError:
        leave()
        reason = " ".join(str(error).split())[:160]
        return InputError(
            f"training: one of the {self._seat.count} processes ended ({reason}); what it said stands above; run the "
            "same command again: it goes on from the last checkpoint"
        )


def cuts_of(examples: int, micro_batch: int, processes: int) -> list[int]:
    """Where each process's part of a step begins, and the end: whole micro-batches, each with dropout of its own."""
    passes = -(-examples // micro_batch)
    return [min(passes * number // processes * micro_batch, examples) for number in range(processes + 1)]


@dataclass(frozen=True, slots=True)
class Step:
    """A step: each process's examples, where they lie in the batch, the seed of dropout, and whether it is on."""

    parts: list[list[TokenizedExample]]
    cuts: list[int]
    seed: int
    training: bool


def shared_step(engine: FastEngine, step: Step, number: int) -> tuple[Tensor, Tensor]:
    """A process's part; all parts' loss and gradients (end to end), added in the processes' order."""
    flat = torch.zeros(1 + sum(p.numel() for p in engine.parameters), dtype=torch.float32, device=engine.device)
    if step.parts[number]:
        total, grads = engine.gradients(step.parts[number], step.seed + step.cuts[number])
        flat[0] = total
        flat[1:] = torch.cat([grad.flatten() for grad in grads])
    gathered = [torch.empty_like(flat) for _ in step.parts]
    dist.all_gather(gathered, flat)
    whole = gathered[0]
    for part in gathered[1:]:
        whole += part
    return whole[0], whole[1:]
