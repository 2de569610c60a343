"""Server-sent events: a part of a page, sent again whenever it has changed.

What is sent is the part's HTML as the page itself has it, escaped by the same templates. A stream ends with the server,
and there are only so many at a time.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from candletune.errors import CandletuneError

EVERY: Final = 1.0
"""Seconds between two looks."""
ALIVE: Final = 15
"""Looks without a change after which a comment is sent, so that a connection that is gone is noticed."""
MOST: Final = 32
"""Streams at a time."""


@dataclass
class Streams:
    """The streams of a server.

    Attributes:
        open: how many there are now.
        ending: whether they end, because the server does.
    """

    open: int = 0
    ending: bool = False
    every: float = EVERY

    def end(self) -> None:
        """Every stream ends at its next look."""
        self.ending = True

    def of(self, look: Callable[[], str]) -> StreamingResponse:
        """A stream of what `look` returns, now and whenever it has changed.

        Raises:
            HTTPException: too many are open.
        """
        if self.open >= MOST:
            raise HTTPException(503, f"{MOST} pages are followed already; close some")
        return StreamingResponse(self._events(look), media_type="text/event-stream")

    async def _events(self, look: Callable[[], str]) -> AsyncIterator[str]:
        self.open += 1
        said, quiet = "", 0
        try:
            yield "retry: 2000\n\n"
            while not self.ending:
                event = await run_in_threadpool(_event, look)
                if event != said:
                    said, quiet = event, 0
                    yield event
                else:
                    quiet += 1
                    if quiet % ALIVE == 0:
                        yield ": nothing new\n\n"
                await asyncio.sleep(self.every)
        finally:
            self.open -= 1


def _event(look: Callable[[], str]) -> str:
    """An event with a number made of its content; a file that can't be read just now is said, and looked at again."""
    try:
        kind, data = "part", look()
    except CandletuneError as error:
        kind, data = "trouble", str(error)
    number = hashlib.sha256(data.encode()).hexdigest()[:16]
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
