"""uvicorn with bounds, for `serve` and `review`: what a client may take of time, memory and connections.

uvicorn closes a connection that is idle between two requests, and nothing else: one that never sends its first byte,
one that sends a header a byte a second, or one that never reads its answer stays for good. Here each has its time.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import uvicorn
from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

from candletune.web.guard import App


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a server.

    Attributes:
        request_seconds: for a whole request, header and body, from the connection or from the answer before it.
        read_seconds: in which a client must take in what is sent to it.
        connections: open at once; beyond them the one that has kept us waiting longest is closed.
        header_bytes: of a request's line and headers.
        end_seconds: for requests under way, once the program is told to end.
    """

    request_seconds: float = 10.0
    read_seconds: float = 20.0
    connections: int = 512
    header_bytes: int = 16 * 1024
    end_seconds: float = 3.0


class BoundedProtocol(H11Protocol):
    """A connection with a deadline whenever it is the client's turn."""

    bounds: ClassVar[Bounds]
    owing: "ClassVar[dict[BoundedProtocol, None]]"
    """Connections whose turn it is, longest first."""
    dropped: ClassVar[Counter[str]]
    _request: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, for so long."""
        super().connection_made(transport)
        self._await_request()
        while len(self.connections) > self.bounds.connections and self.owing:
            next(iter(self.owing))._drop("too many")
        if len(self.connections) > self.bounds.connections:
            self._drop("too many")

    def connection_lost(self, exc: Exception | None) -> None:
        """No deadline any more."""
        self._request_came()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The deadline ends with the request's last byte, not with any byte."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._request_came()

    def on_response_complete(self) -> None:
        """The next request has a deadline of its own, and a closing connection one for going."""
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered or self.cycle.more_body:
            self._await_request()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        super().pause_writing()
        if self._read is None:
            self._read = self.loop.call_later(self.bounds.read_seconds, self._drop, "unread")

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._read is not None:
            self._read.cancel()
            self._read = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered so; where an answer to what came before is under way, the connection ends."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._drop("broken")
            return
        try:
            super().send_400_response(msg)
        except LocalProtocolError:  # the state of the conversation does not allow an answer
            self._drop("broken")

    def shutdown(self) -> None:
        """A client that owes us something gets no more time."""
        if self in self.owing and self.cycle is not None and not self.cycle.response_complete:
            self._drop("ending")
        else:
            super().shutdown()

    def _await_request(self) -> None:
        self._request_came()
        if self in self.connections:
            self.owing[self] = None
            self._request = self.loop.call_later(self.bounds.request_seconds, self._drop, "slow")

    def _request_came(self) -> None:
        self.owing.pop(self, None)
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def _drop(self, reason: str) -> None:
        self._request_came()
        self.connections.discard(self)
        if not self.transport.is_closing():
            self.dropped[reason] += 1
        self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


def server_of(
    app: App,
    *,
    bounds: Bounds | None = None,
    dropped: Counter[str] | None = None,
    ending: Callable[[], None] = lambda: None,
) -> uvicorn.Server:
    """A server whose `run(sockets=[...])` serves until SIGTERM or Ctrl-C.

    Args:
        app: behind its guard.
        bounds: limits; none: the usual ones.
        dropped: counts connections that were closed, by reason.
        ending: called when the end begins.
    """
    limits = bounds or Bounds()
    shared: dict[str, object] = {"bounds": limits, "owing": {}, "dropped": Counter() if dropped is None else dropped}
    settings = uvicorn.Config(
        app,
        http=type("Connection", (BoundedProtocol,), shared),
        ws="none",
        backlog=128,  # so many are accepted at a time, before the limit of connections is looked at
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_graceful_shutdown=int(limits.end_seconds),
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    return _Server(settings, ending)
