"""llama.cpp's server over HTTP, one or several: they hold the model, this process asks them many prompts at a time."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_exponential

from candletune.base.chat import ChatFormat
from candletune.config import Config, EngineConfig
from candletune.config_types import is_loopback
from candletune.decisions import DECISIONS, Decision
from candletune.engines import EngineKind, Generation, Stopped
from candletune.engines.asking import Asking, decision_probabilities
from candletune.engines.llama_server import AdapterFile, Busy, Gone, LlamaServer
from candletune.errors import InputError, UsageError
from candletune.gguf.header import read_header
from candletune.gguf.llama_vocabulary import VocabularyOnly
from candletune.hashes import sha256_path

KEY = "CANDLETUNE_ENGINE_KEY"
"""Environment variable with the servers' key; it is in no file and no message."""
CONNECT = 5.0
"""Seconds for a connection."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 10.0
"""Seconds before a question is asked again; each wait is twice the one before."""
LOOK = 0.05
"""Seconds between two looks at `stop_when`."""
T = TypeVar("T")
Question = Callable[[LlamaServer], Awaitable[T]]


class HttpEngine:
    """See `candletune.engines.Engine`.

    A question goes to the server with the fewest at work. One that goes away is asked again, or another in its place,
    for `engine.patience` seconds; one that comes back is checked as at the start. Questions change nothing on a server,
    so that asking twice is no harm.

    Args:
        base: the base model's GGUF, of which only header and tokenizer are read here.
        config: addresses and limits.
        chat: `base.chat`.

    Raises:
        InputError: a server does not answer, or is not the one meant.
        UsageError: the key would be sent to another host in the clear.
    """

    def __init__(self, base: Path, config: EngineConfig, chat: str = "auto") -> None:
        self.base, self.config = read_header(base), config
        if self.base.is_adapter:
            raise InputError(f"{base}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF")
        self._model = VocabularyOnly(base)
        self._active: str | None = None
        self._stop: Callable[[], bool] | None = None
        self._adapters: dict[str, AdapterFile] = {}
        self._asked = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        self._client: httpx.AsyncClient | None = None
        try:
            self._asking = Asking(self.base, self._model.vocabulary, config, chat)
            self._client = _client(config)
            self._servers = [LlamaServer(url, self._client, self._asking, self._adapters) for url in config.url]
            self._open_servers()
        except BaseException:
            self.close()
            raise

    @property
    def chat(self) -> ChatFormat:
        """What prompts are asked in."""
        return self._asking.chat

    def add_adapter(self, name: str, path: Path) -> None:
        """See the protocol; every server must have it."""
        header = read_header(path)
        self._asking.check_adapter(header, untouched=not self._asked)
        self._adapters[name] = AdapterFile(path, sha256_path(path))
        try:
            self._open_servers()
        except BaseException:
            del self._adapters[name]
            raise

    def use(self, name: str | None) -> None:
        """See the protocol."""
        if name is not None and name not in self._adapters:
            raise InputError(f"adapter {name!r}: not loaded; add it first")
        self._active = name

    def prompt_ids(self, prompt: str) -> list[int]:
        """See the protocol."""
        return self._asking.prompt_ids(prompt)

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """See the protocol."""
        ids = [self._asking.scored_ids(prompt) for prompt in prompts]
        active = self._active
        rows = self._ask_all([partial(LlamaServer.logits, ids=row, adapter=active) for row in ids])
        return decision_probabilities(np.array(rows).reshape(len(rows), len(DECISIONS)))

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        """See the protocol."""
        return self.generate_all([prompt], [action])[0]

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        """See the protocol."""
        answers = [self._asking.answer(prompt, action) for prompt, action in zip(prompts, actions, strict=True)]
        active = self._active
        questions = [
            partial(LlamaServer.write, ids=answer.ids, adapter=active, grammar=answer.grammar) for answer in answers
        ]
        generations = []
        for answer, tokens in zip(answers, self._ask_all(questions), strict=True):
            written = tokens[: self.config.max_tokens]
            length = next((place for place, token in enumerate(written) if self._asking.breaks(token)), len(written))
            ended = length < len(written) and self._asking.ends(written[length])
            generations.append(self._asking.generation(answer, written[:length], ended=ended))
        return generations

    def stop_when(self, asked: Callable[[], bool] | None) -> None:
        """See the protocol; requests under way are dropped, which ends the servers' work on them."""
        self._stop = asked

    def close(self) -> None:
        """See the protocol."""
        if not self._loop.is_closed():
            if self._client is not None:
                self._wait_for(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._model.close()

    # --- asking -------------------------------------------------------------------------------------------------

    def _open_servers(self) -> None:
        """Check every server; one that is loading its model is waited for, one that is not there is not."""

        async def ready(server: LlamaServer) -> None:
            until = time.monotonic() + self.config.patience
            while True:
                try:
                    return await server.ready()
                except Busy as busy:
                    if isinstance(busy, Gone) or time.monotonic() > until:
                        raise InputError(
                            f"{server.url}: {busy}; start llama-server there, or correct engine.url"
                        ) from None
                await asyncio.sleep(FIRST_WAIT)

        async def every() -> None:
            for server in self._servers:
                await ready(server)

        self._wait_for(every())

    def _ask_all(self, questions: Sequence[Question[T]]) -> list[T]:
        """Every question's answer, so many at a time as `engine.requests` says.

        Raises:
            Stopped: `stop_when` said so.
            InputError: a server refuses, or none answered for `engine.patience` seconds.
        """
        self._asked = True

        async def every() -> list[T]:
            free = asyncio.Semaphore(self.config.requests)
            tasks = [asyncio.ensure_future(self._ask(question, free)) for question in questions]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        return self._wait_for(every(), self._stop)

    async def _ask(self, question: Question[T], free: asyncio.Semaphore) -> T:
        async def once() -> T:
            server = min(self._servers, key=lambda server: (not server.answers, server.at_work))
            server.at_work += 1
            try:
                await server.ready()
                return await question(server)
            except Busy as busy:
                raise Busy(f"{server.url}: {busy}") from None
            finally:
                server.at_work -= 1

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Busy),
            stop=stop_after_delay(self.config.patience),
            wait=wait_exponential(FIRST_WAIT, max=LONGEST_WAIT),
        )
        async with free:
            try:
                return await attempts(once)
            except RetryError as failed:
                reason = failed.last_attempt.exception()
                raise InputError(
                    f"{reason}; no answer for {self.config.patience:g} s (engine.patience); start the server again and "
                    "run the same command: it goes on behind what is done"
                ) from None

    def _wait_for(self, work: Coroutine[Any, Any, T], stop: Callable[[], bool] | None = None) -> T:
        """The result of work on the engine's own loop, which any thread may ask for."""
        if stop is not None and stop():
            work.close()
            raise Stopped
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while True:
                try:
                    return future.result(LOOK if stop is not None else None)
                except NotYet:
                    if future.done():  # the work's own
                        raise
                    if stop is not None and stop():
                        raise Stopped from None
        finally:
            future.cancel()


def _client(config: EngineConfig) -> httpx.AsyncClient:
    """No proxy from the environment, no redirect: prompts go where `engine.url` says, or nowhere."""
    key = os.environ.get(KEY)
    for url in config.url:
        if key and url.startswith("http:") and not is_loopback(url):
            raise UsageError(f"engine.url: {url}: {KEY} would be sent in the clear; use https")
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(config.timeout, connect=CONNECT),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=config.requests),
        trust_env=False,
    )


def open_http(config: Config, base: Path) -> HttpEngine:
    """Over the servers of `engine.url`, which must serve this base.

    Raises:
        InputError: a server does not answer, or is not the one meant.
        UsageError: no `engine.url`.
    """
    if not config.engine.url:
        raise UsageError("engine.url: empty; name a llama.cpp server, such as http://127.0.0.1:8080")
    return HttpEngine(base, config.engine, config.base.chat)


ENGINE = EngineKind(open_http, "gguf")
