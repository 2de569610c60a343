"""What every local page shares: links, style sheets and scripts, and the page that says what did not work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from candletune.errors import CandletuneError
from candletune.evaluation.review.reviews import StaleReview
from candletune.report.page import asset, render

FILES = {
    "style.css": "text/css",
    "app.css": "text/css",
    "curves.css": "text/css",
    "review.js": "text/javascript",
    "live.js": "text/javascript",
    "curves.js": "text/javascript",
    "stream.js": "text/javascript",
    "ask.js": "text/javascript",
}
Page = Callable[..., HTMLResponse]


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a navigation bar; `here`: it leads to the page that is shown."""

    target: str
    name: str
    here: bool


def links(request: Request, *targets: tuple[str, str]) -> list[Link]:
    """Links below the app's own address, with the one that the request asked for marked."""
    base = base_of(request)
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return [Link(f"{base}{to}", name, path == to or (to != "/" and path.startswith(to))) for to, name in targets]


def base_of(request: Request) -> str:
    """Where the app is mounted: empty, or such as `/run/demo`."""
    return quote(request.scope.get("root_path", ""))


def page(template: str, request: Request, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render with what every page needs; `run_pages` are those of a run within `candletune ui`."""
    common = {"base": base_of(request), "run_pages": [], "reviewer": "", "start": "/"}
    return HTMLResponse(render(template, **(common | values)), status_code=status)


def add_common(app: FastAPI, show: Page) -> None:
    """Style sheets and scripts, and errors as pages.

    Args:
        app: gets the routes.
        show: renders a template for a request.
    """

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "no such file")
        return Response(str(asset(name)), media_type=FILES[name])

    @app.exception_handler(CandletuneError)
    def known(request: Request, error: CandletuneError) -> HTMLResponse:
        status = 412 if isinstance(error, StaleReview) else 409
        return show("problem.html.j2", request, status=status, problem=str(error))

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> HTMLResponse:
        return show("problem.html.j2", request, status=error.status_code, problem=str(error.detail))
