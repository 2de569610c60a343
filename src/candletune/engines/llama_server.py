"""llama.cpp's own server (`llama-server`), one of them: is it the one meant, and what does it answer.

Ids are sent, never text, and every prompt is read whole (`cache_prompt` off): the server keeps prompts by their tokens
alone, so that what it kept may have been computed under another adapter.
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from candletune.base.gguf_chat import TEMPLATE_KEY
from candletune.config_types import is_loopback
from candletune.engines.asking import Asking
from candletune.errors import InputError
from candletune.hashes import sha256_path

LIMIT = 8 * 2**20
"""Bytes of an answer at most."""
BIAS = 64.0
"""Added to the logits of the three decisions alike, so that they are the likeliest, however unlikely they were.

Their differences keep 2^-17 of a logit, far below what another batch size changes.
"""
PROBES = (
    "BTC/USDT at 67,412.5, 24h change -3.27%, RSI 41.8, Fear & Greed 25 (Extreme Fear)",
    "DECISION: BUY - one\nDECISION: SELL - two\nDECISION: HOLD - three",
    "Биткойн 比特币 🚀 +2.5 %",
)
"""What every server must turn into the same ids as the base's own tokenizer."""
Body = dict[str, Any]
"""A JSON object of llama.cpp's."""
_AGAIN = {429, 500, 502, 503, 504}
_SHORT = 240


class Busy(Exception):
    """No answer this time; asking again may help."""


class Gone(Busy):
    """Nobody listens there."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter that a server must have: the file here, and its hash."""

    path: Path
    sha256: str


class LlamaServer:
    """One server. It is checked before its first answer, and again whenever it had gone away.

    Args:
        url: its address.
        client: sends requests.
        asking: the base it must serve.
        adapters: those it must have, by name; may grow.
    """

    def __init__(
        self, url: str, client: httpx.AsyncClient, asking: Asking, adapters: Mapping[str, AdapterFile]
    ) -> None:
        self.url, self._client, self._asking, self._adapters = url, client, asking, adapters
        self.at_work = 0
        self._known: dict[str, int] | None = None  # the server's number of each adapter; None: not checked
        self._any_adapter = False
        self._checked = -math.inf  # when the last check began
        self._checking = asyncio.Lock()

    @property
    def answers(self) -> bool:
        """Whether it was there the last time."""
        return self._known is not None

    async def ready(self) -> None:
        """Check the server unless that was done.

        Raises:
            Busy: it does not answer now.
            InputError: it is not the one meant.
        """
        async with self._checking:
            if self._known is None or self._known.keys() != self._adapters.keys():
                self._checked, self._known = time.monotonic(), await self._check()

    async def logits(self, ids: list[int], adapter: str | None) -> NDArray[np.float64]:
        """Log probabilities of the three decisions behind ids, up to a constant, shape (3,).

        Raises:
            Busy: no answer this time.
            InputError: the server refuses, or answers something else.
        """
        wanted = self._asking.tokens.ids
        answer = await self._complete(
            adapter,
            prompt=ids,
            n_predict=1,
            samplers=[],
            logit_bias=[[token, BIAS] for token in wanted],
            n_probs=len(wanted),
            post_sampling_probs=True,
            response_fields=["completion_probabilities"],
        )
        try:
            entries = answer["completion_probabilities"][0]["top_probs"]
            found = {entry["id"]: entry["prob"] for entry in entries}
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{self.url}: gives no token probabilities; is it llama.cpp's llama-server?") from None
        if not found or not found.keys() <= set(wanted):
            raise InputError(f"{self.url}: gives other tokens' probabilities than asked for; use a newer llama-server")
        if any(chance is None for chance in found.values()):  # JSON has no word for what is not a number
            return np.full(len(wanted), np.nan)
        with np.errstate(divide="ignore"):  # one that is left out is below the smallest number
            logs: NDArray[np.float64] = np.log(np.array([float(found.get(token, 0.0)) for token in wanted]))
        return logs

    async def write(self, ids: list[int], adapter: str | None, grammar: str | None) -> list[int]:
        """Ids of an answer behind ids.

        Raises:
            Busy: no answer this time.
            InputError: the server refuses, or answers something else.
        """
        config = self._asking.config
        guided: Body = {}
        if grammar is not None:
            never = [[int(token), False] for token in self._asking.unwritten]
            guided = {"grammar": grammar, "logit_bias": never}
        answer = await self._complete(
            adapter,
            prompt=ids,
            n_predict=config.max_tokens,
            samplers=["temperature"],
            temperature=config.temperature,
            return_tokens=True,
            response_fields=["tokens"],
            **guided,
        )
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise InputError(f"{self.url}: gives no token ids; use a newer llama-server")
        return tokens

    async def _complete(self, adapter: str | None, **body: Any) -> Body:
        known = self._known
        if known is None:
            raise Busy("it has just gone away")
        if self._any_adapter:  # unsaid, the server would take those it was started with
            body["lora"] = [{"id": 0, "scale": 0.0}] if adapter is None else [{"id": known[adapter], "scale": 1.0}]
        opened: list[float] = []

        async def trace(event: str, _: Any) -> None:
            if event == "connection.connect_tcp.complete":
                opened.append(time.monotonic())

        answer = await self._ask("/completion", body | {"cache_prompt": False, "seed": 0}, {"trace": trace})
        if not isinstance(answer, dict):
            raise InputError(f"{self.url}: answers no object; is it llama.cpp's llama-server?")
        if opened and not await self._same(opened[-1], known):
            raise Busy("another one listens there now")
        return answer

    async def _same(self, since: float, known: dict[str, int]) -> bool:
        """Whether a connection made `since` then leads to the server that was checked: it may have been restarted."""
        async with self._checking:
            if self._checked < since:
                self._checked, self._known = time.monotonic(), await self._check()
            return self._known == known

    # --- is it the one meant ------------------------------------------------------------------------------------

    async def _check(self) -> dict[str, int]:
        """The server's number of each adapter, after everything was compared."""
        props, models = await self._ask("/props"), await self._ask("/v1/models")
        try:
            self._check_base(props, models["data"][0]["meta"])
            context = int(props["default_generation_settings"]["n_ctx"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"{self.url}: is no llama.cpp server (llama-server), or an old one") from None
        if context < self._asking.config.context:
            raise InputError(
                f"{self.url}: {context} tokens a slot, engine.context is {self._asking.config.context}; start it with "
                "-c as many times that as it has slots (-np), or lower engine.context"
            )
        for probe in PROBES:
            text = self._asking.chat.prompt_text(probe)
            answer = await self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})
            if answer.get("tokens") != self._asking.vocabulary.encode(text):
                raise InputError(
                    f"{self.url}: reads a prompt into other tokens than {self._asking.base.path}; serve that file"
                )
        return await self._find_adapters()

    def _check_base(self, props: Any, meta: Any) -> None:
        base = self._asking.base
        ours = {
            "n_vocab": self._asking.vocabulary.size,
            "n_params": sum(math.prod(tensor.sizes) for tensor in base.tensors),
            "size": sum(tensor.nbytes for tensor in base.tensors),
        }
        different = [key for key, value in ours.items() if meta[key] != value]
        served = str(props["model_path"])
        if not different and is_loopback(self.url) and Path(served).is_file():
            different = [] if sha256_path(Path(served)) == sha256_path(base.path) else ["content"]
        if different:
            raise InputError(
                f"{self.url}: serves {Path(served).name}, which is not {base.path} (another {different[0]}); start "
                "llama-server with -m and that file"
            )
        template = base.fields.get(TEMPLATE_KEY)
        if isinstance(template, str) and str(props.get("chat_template", template)).strip() != template.strip():
            raise InputError(
                f"{self.url}: has another chat template than {base.path}; start llama-server without --chat-template"
            )

    async def _find_adapters(self) -> dict[str, int]:
        listed = await self._ask("/lora-adapters")
        try:
            paths = {int(entry["id"]): Path(entry["path"]) for entry in listed}
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.url}: does not list its adapters; use a newer llama-server") from None
        self._any_adapter = bool(paths)
        return {name: self._find(wanted, paths) for name, wanted in self._adapters.items()}

    def _find(self, wanted: AdapterFile, paths: Mapping[int, Path]) -> int:
        """The number of the adapter whose name holds the hash; a name alone may be an earlier export's."""
        digits = wanted.sha256[:8]
        for number, path in paths.items():
            if digits not in path.name:
                continue
            if is_loopback(self.url) and path.is_file() and sha256_path(path) != wanted.sha256:
                raise InputError(f"{self.url}: {path} is not {wanted.path}, though its name holds that one's hash")
            return number
        stem = wanted.path.stem if digits in wanted.path.stem else f"{wanted.path.stem}-{digits}"
        raise InputError(
            f"{self.url}: has no adapter {digits}; copy {wanted.path} to {stem}.gguf and start llama-server with "
            f"--lora {stem}.gguf (a name with the hash: of an adapter the server says nothing but its name)"
        )

    # --- requests -----------------------------------------------------------------------------------------------

    async def _ask(self, path: str, body: Body | None = None, extensions: Body | None = None) -> Any:
        """One request; JSON.

        Raises:
            Busy: the server is gone, busy, or broke off; it is checked before it is asked again.
            InputError: it refuses.
        """
        method, url = "GET" if body is None else "POST", self.url + path
        try:
            async with self._client.stream(method, url, json=body, extensions=extensions) as response:
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > LIMIT:
                        raise InputError(f"{self.url}: answers more than {LIMIT >> 20} MiB; is it llama.cpp's server?")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._known = None
            raise Gone(f"nobody answers there ({_short(error)})") from None
        except httpx.TransportError as error:
            self._known = None
            raise Busy(f"it broke off ({_short(error) or type(error).__name__})") from None
        return self._read(response.status_code, bytes(content))

    def _read(self, status: int, content: bytes) -> Any:
        if status in _AGAIN:
            raise Busy(f"status {status}: {_short(content.decode(errors='replace'))}")
        if status in (401, 403):
            raise InputError(f"{self.url}: refuses the key (status {status}); set CANDLETUNE_ENGINE_KEY")
        if status != 200:
            said = _short(content.decode(errors="replace"))
            raise InputError(f"{self.url}: refuses with status {status} ({said}); is it llama.cpp's llama-server?")
        try:
            return json.loads(content)
        except ValueError:
            raise InputError(f"{self.url}: answers no JSON; is it llama.cpp's llama-server?") from None


def _short(text: object) -> str:
    return " ".join(str(text).split())[:_SHORT]
