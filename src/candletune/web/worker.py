"""The one thread that asks the model, and how long it has been at it."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[], T]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[T]" = field(init=False)

    def __post_init__(self) -> None:
        self.future = self.loop.create_future()

    def tell(self, result: T | None, error: BaseException | None) -> None:
        """Hand over what came of it, unless nobody waits any more."""

        def hand_over() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)  # type: ignore[arg-type]

        try:
            self.loop.call_soon_threadsafe(hand_over)
        except RuntimeError:  # the loop is closed: the server ended in the meantime
            return


class Worker:
    """Does jobs one after another, in a daemon thread: one that is stuck can't hold the program's end up."""

    def __init__(self, name: str) -> None:
        """Starts the thread."""
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._began: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns, when its turn has come."""
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)
        return await job.future

    @property
    def busy_seconds(self) -> float:
        """How long it has been at the present job; 0 without one."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self, seconds: float) -> bool:
        """Finish what was begun; False where that takes longer than so many seconds."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._began = time.monotonic()
            try:
                result, error = job.work(), None
            except BaseException as raised:  # told to the one that waits
                result, error = None, raised
            self._began = None
            job.tell(result, error)
