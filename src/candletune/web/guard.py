"""What keeps the local app local: loopback hosts only, same origin only, small bodies, strict headers.

A page elsewhere can make a browser send requests here, and DNS rebinding can make its own name resolve to 127.0.0.1;
so the Host header must be a loopback name with our port, a state change needs our Origin, and every form carries a
token that only our own pages know (OWASP CSRF cheat sheet, synchronizer token).
"""

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from candletune.errors import UsageError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY: Final = 64 * 1024
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def check_loopback(host: str) -> str:
    """The address to bind to; a `UsageError` for anything another machine could reach."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UsageError(f"live.host: {host!r} is not a loopback address; use 127.0.0.1 (this page has no password)")
    return host


def allowed_hosts(port: int) -> frozenset[str]:
    """Host headers that reach us: loopback names with our port."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Token:
    """The CSRF token of this process."""

    def __init__(self) -> None:
        self.value = secrets.token_urlsafe(32)

    def matches(self, given: str) -> bool:
        """Compare in constant time."""
        return secrets.compare_digest(self.value.encode(), given.encode())


async def read_body(receive: Receive) -> bytes | None:
    """What was sent, up to a little more than `MAX_BODY`, whatever was announced; None where the client went away."""
    body = bytearray()
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body[: MAX_BODY + 1])


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


async def _refuse(send: Send, status: int, text: str) -> None:
    """Answer and close: what is still on its way isn't read."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


class Guard:
    """ASGI middleware that answers foreign requests itself, before any route sees them."""

    def __init__(self, app: App, hosts: frozenset[str], refused: Callable[[int], None] = lambda _: None) -> None:
        """`refused` is told the status of each request that is answered here."""
        self.app, self.hosts, self.refused = app, hosts, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on with the security headers added."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        problem = self._problem(scope)
        if problem is not None:
            self.refused(problem[0])
            await _refuse(send, *problem)
            return

        if scope["method"] not in SAFE_METHODS:
            body = await read_body(receive)
            if body is None:  # the client is gone
                return
            if len(body) > MAX_BODY:
                self.refused(413)
                await _refuse(send, 413, f"at most {MAX_BODY} bytes\n")
                return
            receive = _again(body, receive)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = HEADERS | {"content-security-policy": POLICY}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in present),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return 403, "foreign Host header: open this page by the address candletune printed\n"
        origin = headers.get("origin")
        if origin is not None and origin != [f"http://{host[0]}"]:
            return 403, "foreign Origin: this page takes requests from itself only\n"
        if scope["method"] in SAFE_METHODS:
            return None
        if headers.get("sec-fetch-site", ["same-origin"]) != ["same-origin"]:
            return 403, "cross-site request refused\n"
        length = headers.get("content-length", ["missing"])[0]
        if not length.isdecimal() or "transfer-encoding" in headers:  # of the two, the body follows the second
            return 411, "Content-Length is needed, and no Transfer-Encoding\n"
        if int(length) > MAX_BODY:
            return 413, f"at most {MAX_BODY} bytes\n"
        return None
