"""`/ask` of `candletune ui`: one context, asked of models of several runs side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.live.lines import parse_context, told
from candletune.report.page import render
from candletune.web.asking import Asker, Busy
from candletune.web.choices import DEFAULT, Choice, choices_of, chosen_model, examples_of
from candletune.web.guard import Token
from candletune.web.pages import Page
from candletune.web.review import read_form
from candletune.web.run_config import config_of
from candletune.web.run_list import Listed, RunList

TICKED: Final = 2
"""Runs whose latest model is ticked at first."""
OFFERED: Final = 30
"""Runs whose models are offered; the latest ones, and those that an address names."""


@dataclass(frozen=True, slots=True)
class Group:
    """A run's models on the page; `problem` says why there is none."""

    key: str
    name: str
    choices: Sequence[Choice]
    ticked: bool
    problem: str = ""


def add_ask(app: FastAPI, show: Page, runs: RunList, config: Config, *, token: Token, asker: Asker) -> None:
    """Add the page and what answers it.

    Args:
        app: gets the routes.
        show: renders a template for a request.
        runs: whose models are offered.
        config: the program's own.
        token: of every form.
        asker: asks the models.
    """

    @app.get("/ask")
    def ask(request: Request) -> HTMLResponse:
        named = request.query_params.getlist("run")
        offered = _offered(runs, named)
        groups = [
            _group(listed, config, ticked=place < max(TICKED, len(named))) for place, listed in enumerate(offered)
        ]
        examples = next((found for listed in offered if (found := _known(examples_of, listed, config))), [])
        return show("ask.html.j2", request, groups=groups, examples=examples, default=DEFAULT, token=token.value)

    @app.post("/ask")
    async def answer(request: Request) -> HTMLResponse:
        fields = await read_form(request, token)
        key, _, pick = fields.get("model", "").partition(" ")
        listed = runs.get(key)
        if listed is None:
            raise HTTPException(404, "no such run")
        try:
            own = config_of(listed.run, config)
            context = parse_context(fields.get("context", ""))
            asked = await asker.ask(own, listed.run, chosen_model(own, listed.run, pick), context)
        except Busy as error:
            return _answer(503, problem=str(error))
        except CandletuneError as error:
            return _answer(422, problem=told(error))
        return _answer(200, problem="", asked=asked)


def _answer(status: int, **values: object) -> HTMLResponse:
    return HTMLResponse(render("answer.html.j2", **values), status_code=status, headers={"x-answer": "yes"})


def _offered(runs: RunList, named: Sequence[str]) -> list[Listed]:
    """The runs that an address names, then the others that have a model, the latest first."""
    known = {listed.key: listed for listed in runs.find()}
    order = [key for key in dict.fromkeys(named) if key in known]
    order += [row.key for row in runs.rows() if row.key not in order and any(known[row.key].run.gguf.glob("*.gguf"))]
    return [known[key] for key in order[:OFFERED]]


def _group(listed: Listed, config: Config, *, ticked: bool) -> Group:
    try:
        return Group(listed.key, listed.name, choices_of(config_of(listed.run, config), listed.run), ticked)
    except CandletuneError as error:
        return Group(listed.key, listed.name, (), ticked=False, problem=str(error))


def _known(look: Callable[..., Sequence[object]], listed: Listed, config: Config) -> Sequence[object]:
    """What is found; nothing where the run can't be read."""
    try:
        return look(config_of(listed.run, config), listed.run)
    except CandletuneError:
        return ()
