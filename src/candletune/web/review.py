"""The FastAPI app: thin routes over `sample`, `reviews`, `tally` and `live`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, unquote

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from candletune.config import Config
from candletune.errors import CandletuneError, InputError
from candletune.evaluation.live import live_view
from candletune.evaluation.review.reviews import QUALITIES, SCALE, Preference, Review, ReviewStore, blank
from candletune.evaluation.review.sample import Checked, Item, load_sample
from candletune.evaluation.review.tally import tally
from candletune.live.drift import read_report
from candletune.runs import RunFolder
from candletune.web.guard import REPORT_POLICY, Guard, Token, allowed_hosts
from candletune.web.live_chart import live_chart
from candletune.web.pages import Link, add_common, base_of, links, page

COOKIE = "candletune_reviewer"
SHOWN = "candletune_decisions"
PAGES = (("/review", "Review"), ("/results", "Result"), ("/live", "Live"))


@dataclass
class ReviewApp:
    """What the routes share: configuration, run, sample and stored reviews.

    Attributes:
        start: the path of the review's start page.
        name: of the run, within `candletune ui`; empty: the app stands alone.
    """

    config: Config
    run: RunFolder
    start: str = "/"
    name: str = ""
    token: Token = field(default_factory=Token)
    _items: list[Item] | None = None

    def __post_init__(self) -> None:
        self.store = ReviewStore(self.run.reviews)

    @property
    def items(self) -> list[Item]:
        """The sample, loaded once it is needed: the live view works without any."""
        if self._items is None:
            reviewed = {review.item for review in self.store.all()}
            self._items = load_sample(self.config, self.run, reviewed=reviewed)
        return self._items

    def page(self, template: str, request: Request, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Render with what every page needs."""
        start = {"start": base_of(request) + self.start, "run": self.name or self.run.path.name}
        who = {"token": self.token.value, "reviewer": reviewer_of(request)}
        if not self.name:
            return page(template, request, status=status, pages=links(request, *PAGES), **start, **who, **values)
        inside = [Link("/", "Runs", False), Link("/ask", "Ask", False)]
        mine = links(request, ("/", "Overview"), *PAGES)
        return page(template, request, status=status, pages=inside, run_pages=mine, **start, **who, **values)

    def go(self, request: Request, path: str) -> RedirectResponse:
        """To another page of this app."""
        return RedirectResponse(base_of(request) + path, 303)

    def first_open(self, reviewer: str) -> int | None:
        """Index of the first item this reviewer has not finished; None when all are."""
        done = {key for key, review in self.store.of(reviewer).items() if review.complete}
        return next((index for index, item in enumerate(self.items) if item.key not in done), None)


def reviewer_of(request: Request) -> str:
    """The reviewer's name from the cookie, or `` when there is none, or one that `/review/start` would not have set."""
    name = unquote(request.cookies.get(COOKIE, ""))
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Whether a reviewer may be called so: one line, 1 to 40 characters that can be seen."""
    return 0 < len(name) <= 40 and name.isprintable() and name == " ".join(name.split())


def create_app(config: Config, run: RunFolder, *, port: int) -> Guard:
    """The review of one run, its result, live view and report, behind the guard."""
    app = review_pages(ReviewApp(config, run))

    @app.get("/report")
    def report() -> Response:
        path = run.report
        if not path.is_file():
            raise HTTPException(404, "no report yet; run `candletune report`")
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": REPORT_POLICY})

    return Guard(app, allowed_hosts(port))


def review_pages(review_app: ReviewApp) -> FastAPI:
    """The same without a guard, for an app that has one."""
    app = FastAPI(title="candletune", docs_url=None, redoc_url=None, openapi_url=None)

    async def form(request: Request) -> dict[str, str]:
        return await read_form(request, review_app.token)

    add_common(app, review_app.page)
    _add_start(app, review_app)
    _add_review(app, review_app, form)
    _add_results(app, review_app)
    _add_live(app, review_app)
    return app


async def read_form(request: Request, token: Token) -> dict[str, str]:
    """A form's fields; of several of one name the last.

    Raises:
        HTTPException: it does not carry the token of this process.
    """
    fields = parse_qs((await request.body()).decode("utf-8", errors="replace"), keep_blank_values=True)
    values = {name: given[-1] for name, given in fields.items()}
    if not token.matches(values.get("token", "")):
        raise HTTPException(403, "this form is from another session; reload the page and try again")
    return values


def _add_start(app: FastAPI, review_app: ReviewApp) -> None:
    @app.get(review_app.start)
    def home(request: Request) -> HTMLResponse:
        try:
            total, problem = len(review_app.items), None
        except InputError as error:
            total, problem = 0, str(error)
        done: dict[str, int] = {}
        keys = {item.key for item in review_app.items} if total else set()
        for review in review_app.store.all():
            done[review.reviewer] = done.get(review.reviewer, 0) + (review.complete and review.item in keys)
        report = review_app.run.report.is_file()
        return review_app.page("home.html.j2", request, total=total, problem=problem, done=done, report=report)


def _add_review(app: FastAPI, review_app: ReviewApp, form: Any) -> None:
    Fields = Annotated[dict[str, str], Depends(form)]

    @app.post("/review/start")
    def start(fields: Fields, request: Request) -> RedirectResponse:
        name = _reviewer_name(fields)
        answer = review_app.go(request, "/review")
        answer.set_cookie(COOKIE, quote(name), httponly=True, samesite="strict", max_age=30 * 86400)
        shown = "yes" if fields.get("decisions") else "no"
        answer.set_cookie(SHOWN, shown, httponly=True, samesite="strict", max_age=30 * 86400)
        return answer

    @app.get("/review")
    def review(request: Request) -> RedirectResponse:
        name = reviewer_of(request)
        if not name:
            return review_app.go(request, review_app.start)
        index = review_app.first_open(name)
        return review_app.go(request, "/results" if index is None else f"/review/{index + 1}")

    @app.get("/review/{number}")
    def show(number: int, request: Request) -> Response:
        name = reviewer_of(request)
        if not name:
            return review_app.go(request, review_app.start)
        item = _item(review_app, number)
        mine = review_app.store.of(name)
        review = mine.get(item.key, blank(item, name))
        view = _review_view(item, review, item.order(name, review_app.config.seed))
        keys = {item.key for item in review_app.items}
        return review_app.page(
            "review.html.j2",
            request,
            item=item,
            number=number,
            total=len(review_app.items),
            done=sum(review.complete for key, review in mine.items() if key in keys),
            decisions=request.cookies.get(SHOWN) == "yes",
            qualities=QUALITIES,
            scale=SCALE,
            slots=view.slots,
            preference=view.preference,
            version_shown=review.version,
        )

    @app.post("/review/{number}")
    def save(number: int, fields: Fields, request: Request) -> Response:
        name = reviewer_of(request)
        if not name:
            raise HTTPException(403, "say who you are first, on the start page")
        answers = _save(review_app, _item(review_app, number), name, fields, shown=request.cookies.get(SHOWN) == "yes")
        if request.headers.get("accept") == "application/json":
            return JSONResponse({"saved": True, "complete": answers.complete, "version": answers.version})
        following = number + 1 if number < len(review_app.items) else None
        if not answers.complete:
            following = number
        return review_app.go(request, f"/review/{following}" if following else "/review")


def _add_results(app: FastAPI, review_app: ReviewApp) -> None:
    @app.get("/results")
    def results(request: Request) -> HTMLResponse:
        keys = [item.key for item in review_app.items]
        name = reviewer_of(request)
        blind = bool(name) and review_app.first_open(name) is not None and "anyway" not in request.query_params
        result = tally(review_app.store.all(), keys, review_app.config.evaluate.confidence)
        return review_app.page("results.html.j2", request, result=result, blind=blind, qualities=QUALITIES)


def _add_live(app: FastAPI, review_app: ReviewApp) -> None:
    @app.get("/live")
    def live(request: Request) -> HTMLResponse:
        return _live_page(review_app, request, "live.html.j2")

    @app.get("/live/fragment")
    def fragment(request: Request) -> HTMLResponse:
        return _live_page(review_app, request, "live_body.html.j2")


def _live_page(review_app: ReviewApp, request: Request, template: str) -> HTMLResponse:
    view = live_view(review_app.config)
    drift, problem = None, ""
    try:
        drift = read_report(review_app.config)
    except CandletuneError as error:
        problem = str(error)
    chart = live_chart(view.running)
    return review_app.page(template, request, view=view, chart=chart, drift=drift, drift_problem=problem)


def _reviewer_name(fields: dict[str, str]) -> str:
    name = " ".join(fields.get("reviewer", "").split())
    if not is_name(name):
        raise HTTPException(422, "a reviewer's name has 1 to 40 printable characters")
    return name


def _item(review_app: ReviewApp, number: int) -> Item:
    if not 1 <= number <= len(review_app.items):
        raise HTTPException(404, f"there are {len(review_app.items)} items")
    return review_app.items[number - 1]


def _save(review_app: ReviewApp, item: Item, name: str, fields: dict[str, str], *, shown: bool) -> Review:
    """Store a form's answers; that the decision was shown once is never forgotten."""
    before = review_app.store.of(name).get(item.key)
    answers = replace(
        _read_answers(fields, item.order(name, review_app.config.seed)),
        item=item.key,
        reviewer=name,
        ticker=item.ticker,
        timestamp=item.timestamp,
        decision_shown=shown or bool(before and before.decision_shown),
    )
    review_app.store.save(answers, over=fields.get("version") or Review(item.key, name).version)
    return answers


@dataclass(frozen=True, slots=True)
class Slot:
    """One reason as the page shows it, what in it was checked by machine, and what the reviewer said of it."""

    reason: str
    action: str
    scores: Mapping[str, int]
    claims: Checked


@dataclass(frozen=True, slots=True)
class ReviewView:
    """What the page may know: slots, never sides; `preference` is `slot0`, `slot1`, `equal` or empty."""

    slots: list[Slot]
    preference: str


def _review_view(item: Item, review: Review, order: tuple[str, str]) -> ReviewView:
    slots = [
        Slot(item.reasons[side], item.actions[side], dict(review.scores.get(side, {})), item.claims.get(side, ()))
        for side in order
    ]
    chosen = review.preference
    place = "equal" if chosen == "equal" else f"slot{order.index(chosen)}" if chosen else ""
    return ReviewView(slots, place)


def _read_answers(fields: dict[str, str], order: tuple[str, str]) -> Review:
    """Form fields (`slot0_grounded`, ..., `preference`) to a review by side.

    Raises:
        HTTPException: a value outside its scale.
    """
    scores: dict[str, dict[str, int]] = {side: {} for side in order}
    for slot, side in enumerate(order):
        for quality in QUALITIES:
            given = fields.get(f"slot{slot}_{quality}")
            if given is None:
                continue
            if given not in {str(score) for score in SCALE}:
                raise HTTPException(422, f"{quality}: expected 1, 2 or 3")
            scores[side][quality] = int(given)
    preferences: dict[str, Preference] = {"slot0": order[0], "slot1": order[1], "equal": "equal"}  # type: ignore[dict-item]
    place = fields.get("preference")
    if place is not None and place not in preferences:
        raise HTTPException(422, f"preference: expected one of {', '.join(preferences)}")
    preference = preferences[place] if place else None
    return Review(item="", reviewer="", scores=scores, preference=preference)
