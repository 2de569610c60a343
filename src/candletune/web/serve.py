"""`serve`: the signal over HTTP on loopback. One worker asks the model; a bounded queue waits before it."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypedDict

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from candletune.decide import Answer, Model
from candletune.errors import CandletuneError, InputError
from candletune.live.faults import HELP, NAME, Kind
from candletune.live.signal import UNSERVED, Trader, answer_text
from candletune.process import tell_service
from candletune.web.guard import Guard, allowed_hosts
from candletune.web.server import Bounds, server_of
from candletune.web.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

STATUS = {0: 200, 2: 422, 3: 422, 4: 409, UNSERVED: 503}
"""HTTP status by exit code; anything else is 500."""
REFUSED: Final[Mapping[int, Kind]] = {403: "foreign_request", 411: "body_length", 413: "large_body"}
READY_SECONDS = 5.0
"""Longest wait of `/ready` for the model's turn."""
BEAT_SECONDS = 10.0
"""Between two signs of life for the watchdog."""
GIVE_UP = 1.0
"""Seconds, at the end, for a worker that was told to stop; llama.cpp asks every few milliseconds."""
LATENCIES = 4096
"""Requests whose latency is remembered."""


class TurnedAway(TypedDict):
    """What a request gets that nobody had time for."""

    status: str
    action: None
    error: str


class RequestQueue(Collector):
    """Takes requests in turn. At most `limit` wait; the next is turned away at once.

    Attributes:
        waiting: requests waiting or at work.
        dropped: connections that were closed, by reason.
    """

    def __init__(self, trader: Trader, limit: int, stuck_seconds: float = 300.0) -> None:
        """`stuck_seconds` over one answer are too many: see `stuck`."""
        self.trader, self.limit, self.stuck_seconds = trader, limit, stuck_seconds
        self.waiting = 0
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=LATENCIES)
        self._worker = Worker("model")
        self._end: float | None = None
        self._looking: asyncio.Task[Model] | None = None
        self._active: Model | None = None

    async def ask(self, body: bytes) -> tuple[int, Answer | TurnedAway]:
        """HTTP status and answer."""
        if self.waiting >= self.limit or self._end is not None:
            busy = f"{self.limit} requests wait already; try again"
            return self._turned_away(busy if self._end is None else "the server ends; try again")
        self.waiting += 1
        start = time.perf_counter()
        try:
            answer, code = await self._worker.do(
                lambda: answer_text(self.trader, body, stop=self._over, names_only=True)
            )
        finally:
            self.waiting -= 1
            self.seconds.append(time.perf_counter() - start)
        if answer["status"] == "error" and self._over():
            return self._turned_away("the server ends; try again")
        self.counts[str(answer["status"])] += 1
        return STATUS.get(code, 500), answer

    def _turned_away(self, why: str) -> tuple[int, TurnedAway]:
        self.counts["turned_away"] += 1
        return 503, TurnedAway(status="error", action=None, error=why)

    @property
    def stuck(self) -> bool:
        """Whether one answer takes longer than any should: the model, a disk or a driver hangs."""
        return self._worker.busy_seconds > self.stuck_seconds

    async def active(self) -> Model:
        """Who acts and has answered, asked in turn; the last one known while many wait.

        Raises:
            InputError: nobody can act.
            TimeoutError: the model has not had a turn yet.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._worker.do(self.trader.prove))
        try:
            self._active = await asyncio.wait_for(asyncio.shield(self._looking), READY_SECONDS)
        except TimeoutError:
            if self._active is None:
                raise
        return self._active

    def end(self, seconds: float) -> None:
        """Take nothing more; what is not answered in so many seconds won't be."""
        self._end = time.monotonic() + seconds

    def _over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def collect(self) -> "Iterator[Metric]":
        """Requests, faults, queue length, latency quantiles of the last requests; asked by `metrics`' registry."""
        requests = CounterMetricFamily("candletune_requests", "requests by status of the answer", labels=["status"])
        for name, count in sorted(self.counts.items()):
            requests.add_metric([name], count)
        yield requests
        dropped = CounterMetricFamily("candletune_connections_dropped", "connections closed, by why", labels=["reason"])
        for name, count in sorted(self.dropped.items()):
            dropped.add_metric([name], count)
        yield dropped
        faults = CounterMetricFamily(NAME, HELP, labels=["kind"])
        for kind, count in self.trader.faults.counts.items():
            faults.add_metric([kind], count)
        yield faults
        yield GaugeMetricFamily("candletune_stuck", "one answer takes too long: 0 or 1", value=self.stuck)
        yield GaugeMetricFamily("candletune_worker_busy_seconds", "at one answer", value=self._worker.busy_seconds)
        yield GaugeMetricFamily("candletune_queue_length", "requests waiting or at work", value=self.waiting)
        seconds = sorted(self.seconds)
        if seconds:
            latency = Metric("candletune_request_seconds", f"seconds of the last {LATENCIES} requests", "summary")
            for quantile in (0.5, 0.99):
                value = seconds[min(len(seconds) - 1, int(quantile * len(seconds)))]
                latency.add_sample("candletune_request_seconds", {"quantile": str(quantile)}, round(value, 6))
            yield latency

    def metrics(self) -> str:
        """What `collect` gives, as Prometheus text."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def close(self) -> bool:
        """Free the model; False where the worker doesn't come back, and it must stay."""
        self.end(0)
        if not self._worker.close(GIVE_UP):
            return False
        self.trader.close()
        return True


def build_app(requests: RequestQueue, *, port: int) -> Guard:
    """The ASGI app: POST /signal, GET /health, /ready and /metrics."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> "AsyncIterator[None]":
        beating = asyncio.create_task(_beat(requests))
        yield
        beating.cancel()
        tell_service("STOPPING=1")
        requests.end(0)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/signal")
    async def answer(request: Request) -> JSONResponse:
        status, content = await requests.ask(await request.body())
        return JSONResponse(content, status_code=status)

    @app.get("/health")
    async def health() -> JSONResponse:
        if requests.stuck:
            error = f"one answer has taken longer than live.stuck_seconds = {requests.stuck_seconds:g}; restart"
            return JSONResponse({"status": "stuck", "error": error}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> JSONResponse:
        try:
            active = await requests.active()
        except (InputError, TimeoutError) as error:
            return JSONResponse({"status": "error", "error": str(error) or "the model is busy"}, status_code=503)
        return JSONResponse({"status": "ok", "model": active.name, "adapter_sha256": active.sha256})

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(requests.metrics())

    return Guard(app, allowed_hosts(port), lambda status: requests.trader.faults.add(REFUSED[status]))


async def _beat(requests: RequestQueue) -> None:
    """Tell systemd that the model has answered, and from then on that none is stuck; nothing without NOTIFY_SOCKET."""
    while tell_service("STATUS=waiting for the model's first answer"):
        try:
            await requests.active()
        except (CandletuneError, TimeoutError):
            await asyncio.sleep(BEAT_SECONDS)
            continue
        break
    tell_service("READY=1")
    while not requests.stuck and tell_service("WATCHDOG=1"):
        await asyncio.sleep(BEAT_SECONDS)


def serve_forever(
    trader: Trader, bound: socket.socket, *, queue: int, stuck_seconds: float = 300.0, bounds: Bounds | None = None
) -> None:
    """Serve on a bound socket until SIGTERM or Ctrl-C; requests under way have a few seconds to be answered.

    The end takes less than five seconds, also with a worker that hangs: then the process ends without asking it.
    """
    # uvicorn raises the signal again once it has shut down; having shut down in order, that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    limits = bounds or Bounds()
    requests = RequestQueue(trader, queue, stuck_seconds)
    app = build_app(requests, port=bound.getsockname()[1])
    # A little before the connections are closed, so that who waits still hears it.
    ending = lambda: requests.end(limits.end_seconds - 0.5)  # noqa: E731
    server_of(app, bounds=limits, dropped=requests.dropped, ending=ending).run(sockets=[bound])
    if not requests.close():
        sys.stdout.flush()
        sys.stderr.write("error: the model did not stop; the process ends without it\n")
        sys.stderr.flush()
        os._exit(1)
