"""Activations kept in pinned host memory, copied out and back beside the computation."""

from collections import deque
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from candletune.training.fast.plan import IN_FLIGHT, ModelSizes

Key = tuple[int, int]
"""Layer and part of it."""
TEST_COPY = 2**26
"""Bytes of the timed copy."""
LAYER_OVER_PRODUCTS = 1.2
"""A layer's forward pass takes this many times as long as its matrix products (measured at 8B)."""


class ActivationOffload:
    """Activation offload: tensors wait in pinned host memory; copies run in a stream of their own.

    Pinned buffers grow to the largest micro-batch and are used again. No tensor is handed to the allocator while a
    copy still uses it: the computing stream waits for the copy first, which orders everything that comes later.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: dict[Key, Tensor] = {}
        self._sizes: dict[Key, int] = {}
        self._outgoing: deque[tuple[torch.cuda.Event, Tensor]] = deque()
        self._incoming: dict[Key, tuple[torch.cuda.Event | None, Tensor]] = {}

    def store(self, key: Key, value: Tensor) -> None:
        """Copy a tensor (rows, features) out; rows may differ from call to call."""
        self._sizes[key] = len(value)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < len(value):
            buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=self.stream is not None)
            self._buffers[key] = buffer
        if self.stream is None:
            buffer[: len(value)].copy_(value)
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            buffer[: len(value)].copy_(value, non_blocking=True)
            self._outgoing.append((self.stream.record_event(), value))
        if len(self._outgoing) > IN_FLIGHT - 1:
            self._release_oldest()

    def prefetch(self, key: Key) -> None:
        """Start bringing a tensor back."""
        if key not in self._sizes:
            return
        part = self._buffers[key][: self._sizes.pop(key)]
        value = torch.empty(part.shape, dtype=part.dtype, device=self.device)
        if self.stream is None:
            self._incoming[key] = (None, value.copy_(part))
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            value.copy_(part, non_blocking=True)
            self._incoming[key] = (self.stream.record_event(), value)

    def load(self, key: Key) -> Tensor:
        """The tensor, on the device."""
        while self._outgoing:
            self._release_oldest()
        self.prefetch(key)
        event, value = self._incoming.pop(key)
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)
        return value

    def clear(self) -> None:
        """Forget what is held; the buffers stay."""
        if self.stream is not None:
            self.stream.synchronize()
        self._outgoing.clear()
        self._sizes.clear()
        self._incoming.clear()

    def _release_oldest(self) -> None:
        event, value = self._outgoing.popleft()
        torch.cuda.current_stream(self.device).wait_event(event)
        del value


def offload_share(sizes: ModelSizes, tokens: int, device: torch.device) -> float:
    """Share of a layer's gate and up projections that can reach host memory while the layer computes.

    Measured on the spot: a matrix product of the model's size against a copy to pinned memory. The layer's input goes
    first; half of the free host memory is the limit.

    Args:
        sizes: the model's sizes.
        tokens: packed tokens of a micro-batch.
        device: a CUDA device (anything else gets 0).
    """
    if device.type != "cuda":
        return 0.0
    dtype = torch.bfloat16 if sizes.item == 2 else torch.float32
    left = torch.randn(4096, sizes.hidden, device=device, dtype=dtype)
    right = torch.randn(sizes.feed_forward, sizes.hidden, device=device, dtype=dtype)
    on_host = torch.empty(TEST_COPY, dtype=torch.uint8, pin_memory=True)
    on_device = torch.empty_like(on_host, device=device)
    product = _seconds(lambda: left @ right.t()) / (4096 * sizes.hidden * sizes.feed_forward)
    copy = _seconds(lambda: on_host.copy_(on_device, non_blocking=True)) / TEST_COPY
    spare = LAYER_OVER_PRODUCTS * product * sizes.layer_weights / copy - sizes.hidden * sizes.item
    row = 2 * sizes.feed_forward * sizes.item
    room: float = psutil.virtual_memory().available / 2 / (sizes.layers * tokens) - sizes.hidden * sizes.item
    return max(0.0, min(1.0, spare / row, room / row))


def _seconds(work: Callable[[], object]) -> float:
    """Time of some work on the current stream, the second time."""
    work()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1000
