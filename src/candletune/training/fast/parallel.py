"""Data parallel over the GPUs of one machine, inside one training: a helper process a GPU.

The Trainer, its optimizer, checkpoints and resuming stay in one process and know nothing of it. Each step, the LoRA
weights go out through shared memory, every GPU works through its part of the effective batch, and the gradients are
summed: what one GPU would compute, whatever their number. Frozen weights never travel; each process loads the base.
"""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from candletune.base.chat import DecisionTokens
from candletune.config import TrainConfig
from candletune.errors import CandletuneError, InputError
from candletune.training.fast.engine import FastEngine, given_loss, plan_for
from candletune.training.fast.plan import Plan
from candletune.training.tokens import Weighted


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper process: its pipe, its gradients in shared memory, and the GPU it has."""

    process: Any
    pipe: Connection
    grads: Tensor
    name: str


class Team:
    """A fast engine whose steps are shared with helper processes; the same interface as `FastEngine`."""

    def __init__(
        self,
        engine: FastEngine,
        base: Path,
        config: TrainConfig,
        examples: Sequence[Weighted],
        *,
        batch: int,
        places: Sequence[str | None],
        say: Callable[[str], None],
    ) -> None:
        """Start the helpers and wait until they have loaded the base.

        Args:
            engine: this process's engine.
            base: the base model's folder.
            config: training settings.
            examples: all training examples; the longest decide each helper's memory plan.
            batch: examples an optimizer step of a member.
            places: CUDA device of each helper as in CUDA_VISIBLE_DEVICES; None: the CPU.
            say: where helpers' notes go.

        Raises:
            InputError: a helper cannot load the base or has too little memory.
        """
        self.engine, self.say = engine, say
        size = sum(parameter.numel() for parameter in engine.parameters)
        self._shared = torch.zeros(size).share_memory_()
        self._helpers: list[Helper] = []
        context = get_context("spawn")
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            for place in places:
                here, there = context.Pipe()
                grads = torch.zeros(size).share_memory_()
                if place is not None:
                    os.environ["CUDA_VISIBLE_DEVICES"] = place
                task = (there, base, config, list(examples), batch, self._shared, grads, place is not None)
                process = context.Process(target=_help, args=task, daemon=True)
                process.start()
                there.close()
                self._helpers.append(Helper(process, here, grads, "the CPU" if place is None else f"GPU {place}"))
        finally:
            if before is None:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before
        for helper in self._helpers:
            self._answer(helper)

    @property
    def plan(self) -> Plan:
        """This process's memory plan."""
        return self.engine.plan

    def loss(self, examples: Sequence[Weighted]) -> tuple[Tensor, float]:
        """As `FastEngine.loss`, with the work shared."""
        seed = int(torch.randint(2**31 - 1, (1,)))
        members = len(self._helpers) + 1
        cuts = [len(examples) * member // members for member in range(members + 1)]
        flat = torch.cat([parameter.detach().flatten() for parameter in self.engine.parameters])
        self._shared.copy_(flat)
        busy = []
        for helper, start, stop in zip(self._helpers, cuts[1:], cuts[2:], strict=False):
            if stop > start:
                self._ask(helper, (list(examples[start:stop]), seed + start, self.engine.model.training))
                busy.append(helper)
        total, grads = self.engine.gradients(examples[: cuts[1]], seed)
        for helper in busy:
            total = total + self._answer(helper)
            parts = helper.grads.to(self.engine.device).split([grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad += part.view_as(grad)
        weight = sum(sum(example.weights) for example in examples)
        return given_loss(total, grads, self.engine.parameters), float(weight)

    def evaluate(self, examples: Sequence[Weighted]) -> tuple[float, float]:
        """As `FastEngine.evaluate`, on this process's device."""
        return self.engine.evaluate(examples)

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """As `FastEngine.decision_probabilities`, on this process's device."""
        return self.engine.decision_probabilities(prompts, tokens)

    def close(self) -> None:
        """End the helpers and give the model back."""
        for helper in self._helpers:
            helper.pipe.close()
            helper.process.join(timeout=10)
        self._helpers = []
        self.engine.close()

    def _ask(self, helper: Helper, work: tuple[list[Weighted], int, bool]) -> None:
        try:
            helper.pipe.send(work)
        except OSError:
            raise _dead(helper) from None

    def _answer(self, helper: Helper) -> float:
        """A helper's next result; its notes are said.

        Raises:
            InputError: it failed or died.
        """
        while True:
            try:
                kind, value = helper.pipe.recv()
            except (EOFError, OSError):
                raise _dead(helper) from None
            if kind == "done":
                return float(value)
            if kind == "failed":
                raise InputError(f"training on {helper.name}: {value}")
            self.say(f"{helper.name}: {value}")


def _dead(helper: Helper) -> InputError:
    return InputError(f"training on {helper.name}: the helper process died; start again with --set train.gpus=1")


def other_places(gpus: int) -> list[str]:
    """The CUDA devices besides the first that training may use.

    Args:
        gpus: how many to use in all; 0: every visible one.
    """
    count = torch.cuda.device_count()
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    names = visible[:count] if visible else [str(number) for number in range(count)]
    return names[1 : min(gpus or count, count)]


def _help(
    pipe: Connection,
    base: Path,
    config: TrainConfig,
    examples: list[Weighted],
    batch: int,
    weights: Tensor,
    grads: Tensor,
    cuda: bool,
) -> None:
    """A helper process: load, then answer steps until the pipe closes."""
    from candletune.base.load import load_base
    from candletune.training.model import add_adapter

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's business

    def note(text: str) -> None:
        pipe.send(("note", text))

    try:
        model = add_adapter(load_base(base, config, "cuda" if cuda else "cpu"), config, 0)
        engine = FastEngine(model, plan_for(model, config, examples, batch=batch), say=note)
        pipe.send(("done", 0.0))
        while True:
            rows, seed, training = pipe.recv()
            model.train(training)
            parts = weights.to(engine.device).split([parameter.numel() for parameter in engine.parameters])
            for parameter, part in zip(engine.parameters, parts, strict=True):
                parameter.data.copy_(part.view_as(parameter))
            total, found = engine.gradients(rows, seed)
            grads.copy_(torch.cat([grad.flatten() for grad in found]))
            pipe.send(("done", total.item()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the training is over
    except CandletuneError as error:
        pipe.send(("failed", str(error)))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
        raise
