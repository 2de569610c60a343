"""`candletune ui`: every run on one start page, and below each its training, report, review and live view."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.report.page import render
from candletune.web.ask import add_ask
from candletune.web.asking import Asker
from candletune.web.compare import add_comparison
from candletune.web.guard import Guard, Token, allowed_hosts
from candletune.web.pages import add_common, links, page
from candletune.web.run_list import Listed, RunList, file_state
from candletune.web.run_page import run_app
from candletune.web.stream import Streams

PAGES = (("/", "Runs"), ("/ask", "Ask"))


@dataclass
class Ui:
    """What the routes share.

    Attributes:
        config: the program's own.
        runs: what there is.
        streams: of every page.
        token: of every form.
    """

    config: Config
    runs: RunList
    streams: Streams = field(default_factory=Streams)
    token: Token = field(default_factory=Token)
    _apps: dict[str, tuple[object, FastAPI]] = field(default_factory=dict)

    def page(self, template: str, request: Request, *, status: int = 200, **values: object) -> HTMLResponse:
        """Render with what every page needs."""
        return page(template, request, status=status, pages=links(request, *PAGES), **values)

    def listed(self, key: str) -> Listed:
        """The run of an address.

        Raises:
            HTTPException: there is none.
        """
        found = self.runs.get(key)
        if found is None:
            raise HTTPException(404, f"{key.replace('~', '/')}: no such run")
        return found

    def app_of(self, listed: Listed) -> FastAPI:
        """The pages of a run; made anew when its configuration may have changed."""
        state = (
            file_state(listed.run.manifest_file),
            file_state(listed.run.demo_config),
            file_state(listed.run.journal),
        )
        known = self._apps.get(listed.key)
        if known is None or known[0] != state:
            known = (state, run_app(listed, self.config, self.streams, self.token))
            self._apps[listed.key] = known
        return known[1]


def create_ui(
    config: Config, roots: Sequence[Path], *, port: int, streams: Streams | None = None, asker: Asker | None = None
) -> Guard:
    """The whole app behind its guard.

    Args:
        config: the program's own configuration.
        roots: run folders, or folders in which runs lie.
        port: under which the guard lets requests in.
        streams, asker: to be ended with the server.
    """
    ui = Ui(config, RunList(roots), streams or Streams())
    app = FastAPI(title="candletune", docs_url=None, redoc_url=None, openapi_url=None)
    add_common(app, ui.page)
    _add_runs(app, ui)
    add_comparison(app, ui.runs)
    add_ask(app, ui.page, ui.runs, config, token=ui.token, asker=asker or Asker())
    app.router.routes.append(Mount("/run/{key}", app=_RunPages(ui)))
    return Guard(app, allowed_hosts(port))


def _add_runs(app: FastAPI, ui: Ui) -> None:
    @app.get("/")
    def home(request: Request) -> HTMLResponse:
        return ui.page("runs.html.j2", request, rows=ui.runs.rows(), roots=ui.runs.roots)

    @app.get("/events")
    async def events() -> StreamingResponse:
        return ui.streams.of(lambda: render("runs_body.html.j2", rows=ui.runs.rows()))


@dataclass
class _RunPages:
    """Hands a request below `/run/NAME` on to the pages of that run."""

    ui: Ui

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            app = self.ui.app_of(self.ui.listed(scope["path_params"]["key"]))
        except HTTPException as error:
            await self._refuse(request, error.status_code, error.detail)(scope, receive, send)
        except CandletuneError as error:
            await self._refuse(request, 409, str(error))(scope, receive, send)
        else:
            await app(scope, receive, send)

    def _refuse(self, request: Request, status: int, problem: str) -> HTMLResponse:
        outer = [*links(request, *PAGES)]
        return page("problem.html.j2", request, status=status, problem=problem, pages=outer)
