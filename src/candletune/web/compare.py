"""`/compare` of `candletune ui`: the page of `candletune compare`, for the runs that an address names."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from candletune.experiments.compare_page import comparison_page
from candletune.experiments.comparison import compare
from candletune.experiments.entrants import read_entrant, reference_of
from candletune.web.run_list import RunList
from candletune.web.written import written_page

COMPARED = 50
"""Runs on one comparison."""


def add_comparison(app: FastAPI, runs: RunList) -> None:
    """Add the page; without a name in the address it is about every run."""

    @app.get("/compare")
    def compared(request: Request) -> HTMLResponse:
        known = {listed.key: listed for listed in runs.find()}
        keys = list(dict.fromkeys(request.query_params.getlist("run"))) or list(known)
        if missing := [key for key in keys if key not in known]:
            raise HTTPException(404, f"{missing[0].replace('~', '/')}: no such run")
        if not keys:
            raise HTTPException(404, "there is no run to compare")
        if len(keys) > COMPARED:
            raise HTTPException(422, f"at most {COMPARED} runs at once; choose some on the start page")
        entrants = [read_entrant(known[key].run.path, known[key].name) for key in keys]
        html = comparison_page(compare(entrants, reference_of(entrants, None)))
        return written_page(html.encode(), "/", "Runs")
