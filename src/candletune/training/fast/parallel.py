"""Data parallel over the GPUs of one machine, inside one training: a worker process a GPU.

The Trainer, its optimizer, checkpoints and resuming stay in one process and know nothing of it. Each step, the LoRA
weights go out through shared memory, every GPU works through its part of the effective batch, and the gradients are
summed: what one GPU would compute, whatever their number. Frozen weights never travel; each process loads the base.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from candletune.training.engine import loss_with_gradients
from candletune.training.examples import TokenizedExample
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.plan import Plan
from candletune.training.fast.preflight import plan_for


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker process starts from.

    Attributes:
        base: the base model's folder.
        config: training settings.
        examples: all training examples; the longest decide each worker's memory plan.
        batch: examples an optimizer step of one device.
    """

    base: Path
    config: TrainConfig
    examples: list[TokenizedExample]
    batch: int


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process: its pipe, its gradients in shared memory, and the device it has."""

    process: Any
    pipe: Connection
    grads: Tensor
    device: str


class DataParallelEngine:
    """A fast engine whose steps are shared with worker processes; the same interface as `FastEngine`."""

    name = "fast"
    checkpointing = False

    def __init__(
        self, engine: FastEngine, task: WorkerTask, *, devices: Sequence[str | None], say: Callable[[str], None]
    ) -> None:
        """Start the workers and wait until they have loaded the base.

        Args:
            engine: this process's engine.
            task: what the workers start from.
            devices: CUDA device of each worker as in CUDA_VISIBLE_DEVICES; None: the CPU.
            say: where workers' notes go.

        Raises:
            InputError: a worker cannot load the base or has too little memory.
        """
        self.engine, self.say = engine, say
        self.call_size = engine.call_size
        size = sum(parameter.numel() for parameter in engine.parameters)
        self._shared = torch.zeros(size).share_memory_()
        self._workers = [self._start(task, device, size) for device in devices]
        for worker in self._workers:
            self._answer(worker)

    def _start(self, task: WorkerTask, device: str | None, size: int) -> Worker:
        """A worker process, still loading."""
        context = get_context("spawn")
        here, there = context.Pipe()
        grads = torch.zeros(size).share_memory_()
        with _visible(device):
            process = context.Process(
                target=_work, args=(there, task, self._shared, grads, device is not None), daemon=True
            )
            process.start()
        there.close()
        return Worker(process, here, grads, "the CPU" if device is None else f"GPU {device}")

    @property
    def model(self) -> Any:
        """This process's model."""
        return self.engine.model

    @property
    def plan(self) -> Plan:
        """This process's memory plan."""
        return self.engine.plan

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[Tensor, float]:
        """As `FastEngine.loss`, with the work shared."""
        seed = int(torch.randint(2**31 - 1, (1,)))
        members = len(self._workers) + 1
        cuts = [len(examples) * member // members for member in range(members + 1)]
        flat = torch.cat([parameter.detach().flatten() for parameter in self.engine.parameters])
        self._shared.copy_(flat)
        busy = []
        for worker, start, stop in zip(self._workers, cuts[1:], cuts[2:], strict=False):
            if stop > start:
                self._ask(worker, (list(examples[start:stop]), seed + start, self.engine.model.training))
                busy.append(worker)
        total, grads = self.engine.gradients(examples[: cuts[1]], seed)
        for worker in busy:
            total = total + self._answer(worker)
            parts = worker.grads.to(self.engine.device).split([grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad += part.view_as(grad)
        weight = sum(sum(example.weights) for example in examples)
        return loss_with_gradients(total, grads, self.engine.parameters), float(weight)

    def evaluate(self, examples: Sequence[TokenizedExample]) -> tuple[float, float]:
        """As `FastEngine.evaluate`, on this process's device."""
        return self.engine.evaluate(examples)

    def decision_probabilities(self, prompts: Sequence[Sequence[int]], tokens: DecisionTokens) -> Tensor:
        """As `FastEngine.decision_probabilities`, on this process's device."""
        return self.engine.decision_probabilities(prompts, tokens)

    def close(self) -> None:
        """End the workers and give the model back."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.join(timeout=10)
        self._workers = []
        self.engine.close()

    def _ask(self, worker: Worker, work: tuple[list[TokenizedExample], int, bool]) -> None:
        try:
            worker.pipe.send(work)
        except OSError:
            raise _dead(worker) from None

    def _answer(self, worker: Worker) -> float:
        """A worker's next result; its notes are said.

        Raises:
            InputError: it failed or died.
        """
        while True:
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):
                raise _dead(worker) from None
            if kind == "done":
                return float(value)
            if kind == "failed":
                raise InputError(f"training on {worker.device}: {value}")
            self.say(f"{worker.device}: {value}")


def _dead(worker: Worker) -> InputError:
    return InputError(f"training on {worker.device}: the worker process died; start again with --set train.gpus=1")


@contextmanager
def _visible(device: str | None) -> Iterator[None]:
    """What is started inside sees this CUDA device only; None: the environment as it is."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def other_devices(gpus: int) -> list[str]:
    """The CUDA devices besides the first that training may use.

    Args:
        gpus: how many to use in all; 0: every visible one.
    """
    count = torch.cuda.device_count()
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    names = visible[:count] if visible else [str(number) for number in range(count)]
    return names[1 : min(gpus or count, count)]


def _work(pipe: Connection, task: WorkerTask, weights: Tensor, grads: Tensor, cuda: bool) -> None:
    """A worker process: load, then answer steps until the pipe closes."""
    from candletune.training.adapter import load_with_adapter

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's business

    def note(text: str) -> None:
        pipe.send(("note", text))

    try:
        model = load_with_adapter(task.base, task.config, "cuda" if cuda else "cpu", 0)
        engine = FastEngine(model, plan_for(model, task.config, task.examples, batch=task.batch), say=note)
        pipe.send(("done", 0.0))
        while True:
            rows, seed, training = pipe.recv()
            model.train(training)
            parts = weights.to(engine.device).split([parameter.numel() for parameter in engine.parameters])
            for parameter, part in zip(engine.parameters, parts, strict=True):
                parameter.data.copy_(part.view_as(parameter))
            total, sums = engine.gradients(rows, seed)
            grads.copy_(torch.cat([grad.flatten() for grad in sums]))
            pipe.send(("done", total.item()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the training is over
    except CandletuneError as error:
        pipe.send(("failed", str(error)))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
        raise
