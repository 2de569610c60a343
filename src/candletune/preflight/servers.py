"""Whether the servers of `engine.url` are there; what they serve is checked when they are asked."""

from collections.abc import Iterator

import httpx

from candletune.config import Config
from candletune.preflight.findings import Finding, check

SECONDS = 5.0
"""For one server."""


@check("servers", "replay")
def servers(config: Config) -> Iterator[Finding]:
    """Each is asked how it is. The new adapter can't be loaded in it before it is trained, so none is a problem yet."""
    for url in config.engine.url:
        try:
            status = httpx.get(f"{url}/health", timeout=SECONDS, trust_env=False).status_code
        except httpx.HTTPError:
            status = 0
        if status == 200:
            yield Finding("ok", "servers", f"{url}: answers")
        elif status == 503:
            yield Finding("ok", "servers", f"{url}: loads its model")
        else:
            said = f"status {status}" if status else "nobody answers"
            text = f"{url}: {said}; start llama-server there before the replay, with the new adapter"
            yield Finding("warning", "servers", text)
