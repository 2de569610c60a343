"""`serve`: the signal over HTTP on loopback. One worker asks the model; a bounded queue waits before it."""

import asyncio
import signal
import socket
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from candletune.decide import Answer
from candletune.errors import InputError
from candletune.live.signal import Trader, answer_text
from candletune.web.guard import Guard, allowed_hosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

STATUS = {0: 200, 2: 422, 3: 422, 4: 409}
"""HTTP status by exit code; anything else is 500."""
LATENCIES = 4096
"""Requests whose latency is remembered."""


class TurnedAway(TypedDict):
    """What a request gets that nobody had time for."""

    status: str
    action: None
    error: str


class RequestQueue(Collector):
    """Takes requests in turn. At most `limit` wait; the next is turned away at once."""

    def __init__(self, trader: Trader, limit: int) -> None:
        self.trader, self.limit = trader, limit
        self.waiting = 0
        self.counts: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=LATENCIES)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, body: bytes) -> tuple[int, Answer | TurnedAway]:
        """HTTP status and answer."""
        if self.waiting >= self.limit:
            self.counts["turned_away"] += 1
            busy = f"{self.limit} requests wait already; try again"
            return 503, TurnedAway(status="error", action=None, error=busy)
        self.waiting += 1
        start = time.perf_counter()
        try:
            loop = asyncio.get_running_loop()
            answer, code = await loop.run_in_executor(self._worker, answer_text, self.trader, body)
        finally:
            self.waiting -= 1
            self.seconds.append(time.perf_counter() - start)
        self.counts[str(answer["status"])] += 1
        return STATUS.get(code, 500), answer

    def collect(self) -> "Iterator[Metric]":
        """Requests by status, queue length, latency quantiles of the last requests; asked by `metrics`' registry."""
        requests = CounterMetricFamily("candletune_requests", "requests by status of the answer", labels=["status"])
        for name, count in sorted(self.counts.items()):
            requests.add_metric([name], count)
        yield requests
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

    def close(self) -> None:
        """Finish what was begun, then free the model."""
        self._worker.shutdown(wait=True)
        self.trader.close()


def build_app(trader: Trader, *, queue: int, port: int) -> Guard:
    """The ASGI app: POST /signal, GET /health, /ready and /metrics."""
    requests = RequestQueue(trader, queue)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> "AsyncIterator[None]":
        yield
        requests.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/signal")
    async def answer(request: Request) -> JSONResponse:
        status, content = await requests.ask(await request.body())
        return JSONResponse(content, status_code=status)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    def ready() -> JSONResponse:  # not async: it may wait for the model's turn, which the event loop must not
        try:
            active = trader.active
        except InputError as error:
            return JSONResponse({"status": "error", "error": str(error)}, status_code=503)
        return JSONResponse({"status": "ok", "model": active.name, "adapter_sha256": active.sha256})

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(requests.metrics())

    return Guard(app, allowed_hosts(port))


def serve_forever(trader: Trader, bound: socket.socket, *, queue: int) -> None:
    """Serve on a bound socket until SIGTERM or Ctrl-C; requests under way are answered first."""
    # uvicorn raises the signal again once it has shut down; having shut down in order, that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    app = build_app(trader, queue=queue, port=bound.getsockname()[1])
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
    uvicorn.Server(settings).run(sockets=[bound])
