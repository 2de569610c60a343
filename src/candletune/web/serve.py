"""`serve`: the signal over HTTP on loopback. One worker asks the model; a bounded queue waits before it."""

import asyncio
import signal
import socket
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from candletune.errors import InputError
from candletune.live.signal import Trader, answer_text
from candletune.web.guard import Guard, allowed_hosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STATUS = {0: 200, 2: 422, 3: 422, 4: 409}
"""HTTP status by exit code; anything else is 500."""
KEPT = 4096


class Desk:
    """Takes requests in turn. At most `limit` wait; the next is turned away at once."""

    def __init__(self, trader: Trader, limit: int) -> None:
        self.trader, self.limit = trader, limit
        self.waiting = 0
        self.counts: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=KEPT)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer."""
        if self.waiting >= self.limit:
            self.counts["turned_away"] += 1
            return 503, {"status": "error", "action": None, "error": f"{self.limit} requests wait already; try again"}
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

    def metrics(self) -> str:
        """Prometheus text: requests by status, queue length, latency quantiles of the last requests."""
        lines = ["# TYPE candletune_requests_total counter"]
        lines += [
            f'candletune_requests_total{{status="{name}"}} {count}' for name, count in sorted(self.counts.items())
        ]
        lines += ["# TYPE candletune_queue_length gauge", f"candletune_queue_length {self.waiting}"]
        taken = sorted(self.seconds)
        if taken:
            lines.append("# TYPE candletune_request_seconds summary")
            for quantile in (0.5, 0.99):
                value = taken[min(len(taken) - 1, int(quantile * len(taken)))]
                lines.append(f'candletune_request_seconds{{quantile="{quantile}"}} {value:.6f}')
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Finish what was begun, then free the model."""
        self._worker.shutdown(wait=True)
        self.trader.close()


def build_app(trader: Trader, *, queue: int, port: int) -> Guard:
    """The ASGI app: POST /signal, GET /health, /ready and /metrics."""
    desk = Desk(trader, queue)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> "AsyncIterator[None]":
        yield
        desk.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/signal")
    async def answer(request: Request) -> JSONResponse:
        status, said = await desk.ask(await request.body())
        return JSONResponse(said, status_code=status)

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
        return PlainTextResponse(desk.metrics())

    return Guard(app, allowed_hosts(port))


def serve_forever(trader: Trader, bound: socket.socket, *, queue: int) -> None:
    """Serve on a bound socket until SIGTERM or Ctrl-C; requests under way are answered first."""
    # uvicorn raises the signal again once it has shut down; having shut down in order, that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    app = build_app(trader, queue=queue, port=bound.getsockname()[1])
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
    uvicorn.Server(settings).run(sockets=[bound])
