"""Layer inputs kept in pinned host memory, copied out and back beside the computation."""

import torch
from torch import Tensor


class Shelf:
    """Holds one tensor a layer outside the GPU; copies run in a stream of their own.

    The pinned buffers grow to the largest micro-batch and are used again.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: dict[int, Tensor] = {}
        self._sizes: dict[int, int] = {}
        self._coming: dict[int, Tensor] = {}

    def put(self, number: int, value: Tensor) -> None:
        """Take a layer's input (tokens, hidden size)."""
        self._sizes[number] = len(value)
        buffer = self._buffers.get(number)
        if buffer is None or len(buffer) < len(value):
            buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=self.stream is not None)
            self._buffers[number] = buffer
        if self.stream is None:
            buffer[: len(value)].copy_(value)
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            buffer[: len(value)].copy_(value, non_blocking=True)
        value.record_stream(self.stream)

    def ask(self, number: int) -> None:
        """Start bringing a layer's input back."""
        if number not in self._sizes or number in self._coming:
            return
        part = self._buffers[number][: self._sizes.pop(number)]
        if self.stream is None:
            self._coming[number] = part.to(self.device, copy=True)
            return
        with torch.cuda.stream(self.stream):
            self._coming[number] = part.to(self.device, non_blocking=True)

    def take(self, number: int) -> Tensor:
        """The layer's input, on the device."""
        self.ask(number)
        value = self._coming.pop(number)
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            value.record_stream(current)
        return value

    def clear(self) -> None:
        """Forget what is held; the buffers stay."""
        self._sizes.clear()
        self._coming.clear()
