"""A run's own pages within `candletune ui`: how far it is, its training as it goes, and everything `review` serves."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from candletune.config import Config
from candletune.runs import RunFolder
from candletune.status import status_of
from candletune.status_text import status_lines
from candletune.web.guard import Token
from candletune.web.pages import base_of
from candletune.web.review import ReviewApp, review_pages
from candletune.web.run_config import config_of
from candletune.web.run_list import Listed
from candletune.web.run_view import run_body
from candletune.web.stream import Streams
from candletune.web.written import written_page


def files_of(run: RunFolder) -> Sequence[tuple[str, str, Path]]:
    """The pages that stages have written: address, name, file."""
    every = (
        ("report", "Report", run.report),
        ("shadow", "Report on the shadow test", run.shadow_report),
        ("card", "Dataset card", run.card),
        ("audit", "Dataset audit", run.audit_card),
    )
    return [entry for entry in every if entry[2].is_file()]


def run_app(listed: Listed, configured: Config, streams: Streams, token: Token) -> FastAPI:
    """The pages of one run.

    Raises:
        InputError: its configuration can't be told.
    """
    run = listed.run
    config = config_of(run, configured)
    review = ReviewApp(config, run, start="/start", name=listed.name, token=token)
    app = review_pages(review)

    @app.get("/")
    def overview(request: Request) -> HTMLResponse:
        facts = status_lines(status_of(config, run))
        files = [(f"{base_of(request)}/{address}", name) for address, name, _ in files_of(run)]
        return review.page("run.html.j2", request, body=run_body(run), facts=facts, files=files, folder=run.path)

    @app.get("/events")
    async def events() -> StreamingResponse:
        return streams.of(lambda: run_body(run))

    @app.get("/{address}")
    def file(address: str, request: Request) -> Response:
        for known, _, path in files_of(run):
            if known == address:
                return written_page(path.read_bytes(), f"{base_of(request)}/", listed.name)
        raise HTTPException(404, f"{listed.name} has no such page")

    return app
