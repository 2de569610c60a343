"""Steps shared between two gloo processes give one process's loss and gradients; a failure is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from candletune.config import TrainConfig
from candletune.errors import UsageError
from candletune.hashes import sha256_path
from candletune.training.adapter import load_with_adapter
from candletune.training.fast import seats
from candletune.training.fast.distributed import cuts_of
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.preflight import plan_for
from training_models import examples, gradients, tiny_model

CONFIG = TrainConfig(quantization="none", lora_rank=4, lora_alpha=8, dropout=0.3, backend="fast", vram_gib=1.0)
ROOT = Path(__file__).parents[3]
MEMBER = """
import sys
from pathlib import Path
from test_distributed import first, other
(other if int(sys.argv[1]) else first)(Path(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model().unload().save_pretrained(folder)
    return folder


def member(base: Path) -> FastEngine:
    """This process's engine; LoRA B is not zero."""
    model = load_with_adapter(base, CONFIG, "cpu", 0).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return FastEngine(model, plan_for(model, CONFIG, examples(8, 5), batch=2), say=print)


def first(base: Path, how: str) -> None:
    """Process 0: steps of eight rows and of one, saved; with `waits` it waits for the other's death in between."""
    from candletune.training.fast.distributed import DistributedEngine, Share

    seat = seats.taken_seat()
    assert seat is not None
    digest = "0" * 64 if how == "another base" else sha256_path(base)
    shared = DistributedEngine(member(base), Share(base, digest, CONFIG, examples(8, 5), 2), seat)
    found = []
    for count in (8, 8, 1):
        torch.manual_seed(3)
        shared.engine.model.zero_grad()
        loss, weight = shared.loss(examples(8, 5)[:count])
        torch.autograd.backward(loss)
        found.append((loss.item(), weight, gradients(shared.model)))
        if how == "waits":
            print("ready", flush=True)
            sys.stdin.readline()
    torch.save(found, base.parent / "found.pt")
    shared.close()


def other(base: Path, how: str) -> None:
    """A process besides the first."""
    from candletune.config import Config
    from candletune.training.fast.distributed import follow

    seat = seats.taken_seat()
    assert seat is not None
    follow(seat, Config(), print)


def start(base: Path, how: str, port: int) -> list["subprocess.Popen[str]"]:
    paths = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT / "src")]
    known = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    known |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(number), str(base), how],
            env=known | {"RANK": str(number), "LOCAL_RANK": str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_another_process_changes_nothing(base: Path) -> None:
    """Dropout included: a row's mask does not depend on which process works on it (micro-batch 2 everywhere)."""
    members = start(base, "whole", free_port())
    for process in members:
        assert (process.wait(300), process.communicate()[1][-2000:])[0] == 0
    alone = member(base)
    assert alone.plan.micro_batch == 2
    found = torch.load(base.parent / "found.pt")
    assert found[0][1] > found[2][1]
    for (loss, weight, grads), count in zip(found, (8, 8, 1), strict=True):
        torch.manual_seed(3)
        alone.model.zero_grad()
        wanted, wanted_weight = alone.loss(examples(8, 5)[:count])
        torch.autograd.backward(wanted)
        assert loss == pytest.approx(wanted.item(), rel=1e-6)
        assert weight == wanted_weight
        for key, grad in gradients(alone.model).items():
            assert (grads[key] - grad).norm() <= 1e-5 * grad.norm(), key
    for key, grad in found[0][2].items():
        assert torch.equal(grad, found[1][2][key])  # the same order of the sum each time


def test_a_process_that_dies_ends_the_step_with_the_reason(base: Path) -> None:
    leader, helper = start(base, "waits", free_port())
    assert leader.stdout is not None
    assert leader.stdout.readline() == "ready\n"
    helper.kill()
    helper.wait()
    _, said = leader.communicate("\n", timeout=300)
    assert leader.returncode != 0
    assert "InputError: training: one of the 2 processes ended" in said
    assert "goes on from the last checkpoint" in said


def test_a_process_with_another_base_says_so(base: Path) -> None:
    members = start(base, "another base", free_port())
    said = [process.communicate(timeout=300)[1] for process in members]
    assert "process 1 of 2: " in said[0]
    assert "process 0 trains over 00000000; copy that base here" in said[0]
    assert all(process.returncode for process in members)


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
