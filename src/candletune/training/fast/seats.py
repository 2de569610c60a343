"""Where a process stands among those that `torchrun` (or candletune itself) started for one training.

What `torchrun` says of it is read once and taken out of the environment: Hugging Face's Trainer in process 0 would
otherwise wrap the model for itself. Each process sees the one GPU that is its own.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from candletune.errors import UsageError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")
"""Of the environment, set by `torchrun`; MASTER_ADDR and MASTER_PORT stay."""
BEGIN, YES, NO = "begin", "yes", "no"
A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Seat:
    """A process's place.

    Attributes:
        number: among all, from 0 (torch's rank).
        local: among those of its host.
        count: of all.
    """

    number: int
    local: int
    count: int

    def store(self, prefix: str) -> Any:
        """The key-value store that all processes share, under a prefix of its own."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        return PrefixStore(prefix, _store(self))


@cache
def _store(seat: Seat) -> Any:
    """torch's key-value store: served by process 0, or by torchrun's agents."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = seat.number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return TCPStore(address, port, seat.count, serves, timeout=A_WEEK, wait_for_workers=False)


@cache
def taken_seat() -> Seat | None:
    """This process's seat; None: it was started alone. The first call must come before CUDA is used.

    Raises:
        UsageError: the environment makes no sense, or there is no GPU left for this process.
    """
    said = {name: os.environ.pop(name, None) for name in VARIABLES}
    if said["WORLD_SIZE"] is None or said["RANK"] is None or said["WORLD_SIZE"] == "1":
        return None
    try:
        seat = Seat(int(said["RANK"]), int(said["LOCAL_RANK"] or 0), int(said["WORLD_SIZE"]))
    except ValueError:
        raise UsageError(f"torchrun: RANK={said['RANK']}, WORLD_SIZE={said['WORLD_SIZE']} are no numbers") from None
    _see_one_gpu(seat)
    return seat


def _see_one_gpu(seat: Seat) -> None:
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    if visible and seat.local >= len(visible):
        raise UsageError(f"torchrun: {seat.local + 1} processes on this host, CUDA_VISIBLE_DEVICES has {len(visible)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[seat.local] if visible else str(seat.local)


def told_to_begin(seat: Seat, *, begin: bool | None = None) -> bool:
    """Process 0 tells the others whether there is anything to train; they wait to be told.

    Args:
        seat: this process's.
        begin: what is told; None: wait.
    """
    store = seat.store("told")
    if begin is not None:
        if seat.number == 0 and not store.check([BEGIN]):
            store.set(BEGIN, YES if begin else NO)
        return begin
    found: bytes = store.get(BEGIN)
    return found.decode() == YES
