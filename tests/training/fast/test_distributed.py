"""Steps shared between two gloo processes give one process's loss and gradients; a failure is said."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from torch import Tensor

from candletune.config import Config, TrainConfig
from candletune.errors import UsageError
from candletune.hashes import sha256_path
from candletune.training.adapter import load_with_adapter
from candletune.training.fast import seats
from candletune.training.fast.distributed import DistributedEngine, Share, cuts_of
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.following import follow
from candletune.training.fast.preflight import plan_for
from candletune.training.fast.seats import Seat
from training_models import examples, gradients, tiny_model

CONFIG = TrainConfig(quantization="none", lora_rank=4, lora_alpha=8, dropout=0.3, backend="fast", vram_gib=1.0)
COUNTS = (8, 8, 1)
IMPORTED = ["peft", "transformers.models.mistral.modeling_mistral", "candletune.training.fast.following", "pytest"]
needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs the forkserver start method")
"""Every process would otherwise import torch anew, which is most of what these tests cost."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model().unload().save_pretrained(folder)
    return folder


def one_engine(base: Path) -> FastEngine:
    """A process's engine; LoRA B is not zero."""
    model = load_with_adapter(base, CONFIG, "cpu", 0).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return FastEngine(model, plan_for(model, CONFIG, examples(8, 5), batch=2), say=print)


def steps(engine: FastEngine | DistributedEngine) -> Iterator[tuple[float, float, dict[str, Tensor]]]:
    """Loss, weight and gradients of steps of eight rows, of the same again and of one."""
    for count in COUNTS:
        torch.manual_seed(3)
        engine.model.zero_grad()
        loss, weight = engine.loss(examples(8, 5)[:count])
        torch.autograd.backward(loss)
        yield loss.item(), weight, {key: grad.clone() for key, grad in gradients(engine.model).items()}


def first(seat: Seat, base: Path, how: str, first_step: Event, go_on: Event) -> None:
    """Process 0: the steps, saved; after the first it waits to be told to go on."""
    digest = "0" * 64 if how == "another base" else sha256_path(base)
    shared = DistributedEngine(one_engine(base), Share(base, digest, CONFIG, examples(8, 5), 2), seat)
    found = []
    for step in steps(shared):
        found.append(step)
        first_step.set()
        go_on.wait(60)
    torch.save(found, base.parent / "found.pt")
    shared.close()


def member(number: int, port: int, base: Path, how: str, events: tuple[Event, Event]) -> None:
    """One of the two processes; what it says is in a file."""
    said = os.open(base.parent / f"{how}-{number}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    seat = Seat(number, number, 2)
    if number:
        follow(seat, Config(), print)
    else:
        first(seat, base, how, *events)


class Members:
    """Two processes that share steps."""

    def __init__(self, base: Path, how: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self.first_step, self.go_on = context.Event(), context.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        events = (self.first_step, self.go_on)
        self.processes = [context.Process(target=member, args=(n, port, base, how, events)) for n in range(2)]
        self._said = [base.parent / f"{how}-{number}.txt" for number in range(2)]
        for process in self.processes:
            process.start()

    def end(self) -> tuple[list[str], list[int | None]]:
        """What each has said once it has ended, and its exit code."""
        self.go_on.set()
        for process in self.processes:
            process.join(60)
        return [path.read_text() for path in self._said], [process.exitcode for process in self.processes]


@needs_fork
def test_another_process_changes_nothing(base: Path) -> None:
    """Dropout included: a row's mask does not depend on which process works on it (micro-batch 2 everywhere)."""
    said, codes = Members(base, "whole").end()
    assert codes == [0, 0], said
    alone = one_engine(base)
    assert alone.plan.micro_batch == 2
    found = torch.load(base.parent / "found.pt")
    assert found[0][1] > found[2][1]
    for (loss, weight, grads), (wanted, wanted_weight, wanted_grads) in zip(found, steps(alone), strict=True):
        assert loss == pytest.approx(wanted, rel=1e-6)
        assert weight == wanted_weight
        for key, grad in wanted_grads.items():
            assert (grads[key] - grad).norm() <= 1e-5 * grad.norm(), key
    for key, grad in found[0][2].items():
        assert torch.equal(grad, found[1][2][key])  # the same order of the sum each time


@needs_fork
def test_a_process_that_dies_ends_the_step_with_the_reason(base: Path) -> None:
    members = Members(base, "dies")
    assert members.first_step.wait(60)
    members.processes[1].kill()
    members.processes[1].join()
    said, codes = members.end()
    assert codes == [1, -signal.SIGKILL]
    assert "InputError: training: one of the 2 processes ended" in said[0]
    assert "goes on from the last checkpoint" in said[0]


@needs_fork
def test_a_process_with_another_base_says_so(base: Path) -> None:
    said, codes = Members(base, "another base").end()
    assert "process 1 of 2: " in said[0]
    assert "process 0 trains over 00000000; copy that base here" in said[0]
    assert codes == [1, 1]


def test_parts_of_a_step_are_whole_passes() -> None:
    assert cuts_of(8, 2, 2) == [0, 4, 8]
    assert cuts_of(8, 2, 3) == [0, 2, 4, 8]
    assert cuts_of(7, 2, 2) == [0, 4, 7]
    assert cuts_of(1, 2, 2) == [0, 0, 1]
    assert cuts_of(32, 8, 3) == [0, 8, 16, 32]


def test_a_seat_is_read_once_and_has_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "CUDA_VISIBLE_DEVICES": "6,2"}.items():
        monkeypatch.setenv(name, value)
    seats.taken_seat.cache_clear()
    seat = seats.taken_seat()
    assert seat is not None
    assert (seat.number, seat.local, seat.count) == (5, 1, 8)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert "RANK" not in os.environ
    assert seats.taken_seat() is seat
    seats.taken_seat.cache_clear()
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="2 processes on this host, CUDA_VISIBLE_DEVICES has 1"):
        seats.taken_seat()
    seats.taken_seat.cache_clear()
    assert seats.taken_seat() is None
    seats.taken_seat.cache_clear()
