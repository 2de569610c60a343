"""Card and memory: what may be used, what is used up, and where a model's weights go that do not fit."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candletune.errors import OutOfMemory
from candletune.model_shape import ModelShape

GIB = 2**30
CARD_RESERVE = 0.25 * GIB
"""Left alone of what a card or a cap has: fragments and CUDA's own workspaces."""
MEMORY_RESERVE = 1.5 * GIB
"""Left alone of main memory: other programs, and the pages a weight is read through."""
SCORED_ROWS, SCORED_TOKENS = 32, 384
"""Prompts of a scoring pass, and the tokens each is taken to have beyond what all share."""
_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "alloc_failed",
)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's layers go.

    Attributes:
        max_memory: bytes by device (0 is the first card), as Accelerate takes them; what exceeds them all stays in the
            safetensors files and is read at every pass.
        scratch: folder for weights that cannot be read from the files as they are.
    """

    max_memory: dict[int | str, int]
    scratch: Path


def device_budget(vram_gib: float | None, device: str) -> float:
    """Bytes this process may hold on a device.

    Args:
        vram_gib: train.vram_gib.
        device: `cuda` or `cpu`.

    Returns:
        The smallest of the setting, the process's cap, and what is free less a reserve.
    """
    if device == "cuda":
        return card_budget(vram_gib)
    return min(memory_budget(), vram_gib * GIB) if vram_gib else memory_budget()


def card_budget(vram_gib: float | None, card: Any = None) -> float:
    """Bytes this process may hold on a card, those it holds already included.

    Args:
        vram_gib: train.vram_gib.
        card: a torch device; none: the current one.

    Returns:
        The smallest of the setting, the process's cap, and what is free, less a reserve.
    """
    import torch

    free, total = torch.cuda.mem_get_info(card)
    allowed: float = free + torch.cuda.memory_reserved(card)
    if hasattr(torch.cuda, "get_per_process_memory_fraction"):
        allowed = min(allowed, torch.cuda.get_per_process_memory_fraction(card) * total)
    allowed -= CARD_RESERVE
    return min(allowed, vram_gib * GIB) if vram_gib else allowed


def memory_budget() -> float:
    """Bytes of main memory that may be used: what is available, under a container's limit too, less a reserve."""
    import psutil

    available = float(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="utf-8"))
        used = int((group / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass  # no such group, or `max`
    else:
        available = min(available, float(limit - used))
    return max(available - MEMORY_RESERVE, 0.0)


def place(shape: ModelShape, item: int, device: str, budget: float, scratch: Path) -> Placement | None:
    """Where the layers of an unquantized model go for scoring.

    Args:
        shape: the model's.
        item: bytes a weight.
        device: `cuda` or `cpu`.
        budget: bytes allowed on the device.
        scratch: see `Placement`.

    Returns:
        None when the device holds it all.
    """
    weights = shape.parameters * item
    working = scoring_bytes(shape, item)
    if weights + working <= budget:
        return None
    room = max(int(budget - working), 1)
    if device == "cpu":
        return Placement({"cpu": room}, scratch)
    return Placement({0: room, "cpu": max(int(memory_budget()), 1)}, scratch)


def scoring_bytes(shape: ModelShape, item: int) -> float:
    """Bytes that a scoring pass holds beside the weights: one layer's activations of all its rows."""
    return SCORED_ROWS * SCORED_TOKENS * item * float(8 * shape.hidden + 4 * shape.feed_forward)


def execution_device(module: Any) -> Any:
    """Where a module computes; parameters of one whose weights are brought when needed lie nowhere (on `meta`)."""
    import torch

    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def release() -> None:
    """Give back what closed models held: Python's cycles, then the card's cached blocks."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that card or memory are used up, whichever library raised it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in _SIGNS)


@contextmanager
def memory_explained(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever says "out of memory" in the block into one line.

    Args:
        what: the stage or command.
        remedy: which settings make it smaller.

    Raises:
        OutOfMemory: card or memory were used up.
    """
    try:
        yield
    except OutOfMemory as error:
        raise OutOfMemory(f"{what}: {error}") from None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__
        raise OutOfMemory(f"{what}: out of memory ({reason}); {remedy}") from None
