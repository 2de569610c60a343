"""The local app over HTTP: who may talk to it, what is stored, and that nothing tells the models apart."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from candletune.config import Config
from candletune.errors import UsageError
from candletune.evaluation.review.reviews import read_reviews
from candletune.evaluation.review.sample import load_sample
from candletune.journal import Journal
from candletune.runs import RunFolder
from candletune.web.guard import MAX_BODY, check_loopback
from candletune.web.review import create_app
from simulated_run import HOSTILE, live_row, make_run

PORT = 8555
HOME = f"http://127.0.0.1:{PORT}"
ANSWERS = {f"slot{slot}_{quality}": "3" for slot in (0, 1) for quality in ("grounded", "sensible", "clear")}


class Browser:
    """Requests to the app as a browser would send them; cookies are kept."""

    def __init__(self, config: Config, run: RunFolder) -> None:
        self.app = create_app(config, run, port=PORT)
        self.cookies = httpx.Cookies()
        self.token = ""

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"origin": HOME} if method == "POST" else {}
        headers |= given.pop("headers", {})

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=HOME, cookies=self.cookies) as client:
                answer = await client.request(method, path, headers=headers, **given)
                self.cookies.update(client.cookies)
                return answer

        answer = asyncio.run(ask())
        if found := re.search(r'name="token" value="([^"]+)"', answer.text):
            self.token = found[1]
        return answer

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.send("GET", path, **given)

    def post(self, path: str, data: dict[str, str], **given: Any) -> httpx.Response:
        if re.fullmatch(r"/review/[1-9]\d*", path) and "version" not in data:
            data = data | {"version": self.version(path)}
        return self.send("POST", path, data={"token": self.token} | data, **given)

    def version(self, path: str) -> str:
        """Of the answers that a page shows, as its form has it."""
        token = self.token
        found = re.search(r'name="version" value="(\w+)"', self.get(path).text)
        self.token = token or self.token
        return found[1] if found else ""

    def start(self, name: str, **fields: str) -> httpx.Response:
        self.get("/")
        return self.post("/review/start", {"reviewer": name} | fields)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    return make_run(tmp_path_factory.mktemp("review"), reason=HOSTILE)


@pytest.fixture
def browser(made: tuple[Config, RunFolder]) -> Iterator[Browser]:
    made[1].file("evaluation", "reviews.jsonl").unlink(missing_ok=True)
    yield Browser(*made)


def stored(made: tuple[Config, RunFolder]) -> list[Any]:
    return read_reviews(made[1].file("evaluation", "reviews.jsonl"))


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
def test_foreign_host_is_refused(browser: Browser, host: str) -> None:
    assert browser.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"http://127.0.0.1:{PORT + 1}"])
def test_foreign_origin_is_refused(browser: Browser, made: tuple[Config, RunFolder], origin: str) -> None:
    browser.start("Ada")
    answer = browser.post("/review/1", ANSWERS, headers={"origin": origin})
    assert answer.status_code == 403
    assert browser.get("/", headers={"origin": origin}).status_code == 403
    assert stored(made) == []


def test_form_needs_the_token(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    browser.token = "x" * 43
    assert browser.post("/review/1", ANSWERS).status_code == 403
    assert stored(made) == []


def test_no_get_changes_anything(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    for path in ("/", "/review", "/review/1", "/results", "/live", "/live/fragment", "/review/start"):
        browser.get(path, params={"preference": "slot0", "reviewer": "Eve", **ANSWERS})
    assert stored(made) == []
    assert "Ada" in browser.get("/review/1").text


def test_large_and_unsized_bodies_are_refused(browser: Browser) -> None:
    browser.start("Ada")
    assert browser.post("/review/1", {"x": "y" * MAX_BODY}).status_code == 413

    async def endless() -> Any:
        yield b"token=x"

    assert browser.send("POST", "/review/1", content=endless()).status_code == 411


def test_every_page_carries_the_policy(browser: Browser) -> None:
    for path in ("/", "/live", "/results", "/nowhere", "/static/app.css"):
        policy = browser.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy


def test_page_does_not_tell_the_models_apart(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    page = browser.get("/review/1").text.lower()
    for word in ("candidate", "active", "shadow", "a" * 64, "b" * 64):
        assert word not in page.replace("the incumbent says", "")


def test_order_is_random_by_item_and_stays_after_a_reload(made: tuple[Config, RunFolder]) -> None:
    items = load_sample(*made)
    orders = [item.order("Ada", 17) for item in items]
    assert orders == [item.order("Ada", 17) for item in items]
    many = [item.order(f"reviewer {i}", 17)[0] for item in items for i in range(50)]
    assert 0.35 < many.count("active") / len(many) < 0.65


def test_hostile_reason_is_text(browser: Browser) -> None:
    browser.start("Ada")
    page = browser.get("/review/1").text
    assert "&lt;script&gt;" in page
    assert "<img" not in page


def test_answers_are_stored_by_model_whatever_the_order(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    item = load_sample(*made)[0]
    first = item.order("Ada", made[0].seed)[0]
    fields = ANSWERS | {"slot0_clear": "1", "preference": "slot0"}
    answer = browser.post("/review/1", fields, headers={"accept": "application/json"})
    (review,) = stored(made)
    assert answer.json() == {"saved": True, "complete": True, "version": review.version}
    assert (review.reviewer, review.item, review.preference) == ("Ada", item.key, first)
    assert review.scores[first] == {"grounded": 3, "sensible": 3, "clear": 1}


def test_second_answer_replaces_the_first_and_reviewers_stay_apart(
    browser: Browser, made: tuple[Config, RunFolder]
) -> None:
    for name in ("Ada", "Grace", "Ada"):
        browser.start(name)
        browser.post("/review/1", ANSWERS | {"preference": "equal"})
    assert sorted(review.reviewer for review in stored(made)) == ["Ada", "Grace"]


def test_incomplete_answers_resume(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    browser.post("/review/1", {"slot0_clear": "2"})
    (review,) = stored(made)
    assert not review.complete
    assert browser.get("/review").headers["location"] == "/review/1"
    browser.post("/review/1", ANSWERS | {"preference": "slot1"})
    assert browser.get("/review").headers["location"] == "/review/2"


def test_shown_decision_is_noted_for_good(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada", decisions="yes")
    assert re.search(r'class="decision (BUY|SELL|HOLD)"', browser.get("/review/1").text)
    browser.post("/review/1", ANSWERS)
    browser.start("Ada")
    assert 'class="decision' not in browser.get("/review/1").text
    browser.post("/review/1", ANSWERS | {"preference": "equal"})
    assert [review.decision_shown for review in stored(made)] == [True]


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "a\x07b"])
def test_bad_names_are_refused(browser: Browser, name: str) -> None:
    assert browser.start(name).status_code == 422


@pytest.mark.parametrize("fields", [{"slot0_clear": "4"}, {"slot1_grounded": ""}, {"preference": "candidate"}])
def test_answers_outside_the_scale_are_refused(
    browser: Browser, made: tuple[Config, RunFolder], fields: dict[str, str]
) -> None:
    browser.start("Ada")
    assert browser.post("/review/1", ANSWERS | fields).status_code == 422
    assert stored(made) == []


def test_results_stay_hidden_until_ones_own_review_is_done(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    browser.post("/review/1", ANSWERS | {"preference": "slot0"})
    assert "stay hidden" in browser.get("/results").text
    for number in range(2, 7):
        browser.post(f"/review/{number}", ANSWERS | {"preference": "slot0"})
    assert browser.get("/review").headers["location"] == "/results"
    page = browser.get("/results").text
    assert "6 reviews of 6 of 6 items by 1 reviewer" in page
    assert "built-in" not in page


def test_item_outside_the_sample(browser: Browser) -> None:
    browser.start("Ada")
    assert browser.get("/review/7").status_code == 404


def test_live_view_counts_what_the_journal_holds(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    config = made[0]
    config.live.journal.unlink(missing_ok=True)
    assert "No shadow journal yet" in browser.get("/live").text
    journal = Journal(config.live.journal)
    journal.append_many([live_row(config, hours) for hours in range(30)])
    page = browser.get("/live/fragment").text
    assert '<div class="big">30</div>' in page
    assert "2 of 50" in page  # 20 calls whose 12 windows overlap
    with config.live.journal.open("a") as stream:
        stream.write(json.dumps({"half": 1})[:5])
    assert "1 torn" in browser.get("/live/fragment").text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])  # noqa: S104 - refused
def test_only_loopback_is_bound(host: str) -> None:
    with pytest.raises(UsageError, match="loopback"):
        check_loopback(host)


def test_broken_reviews_line_is_named(made: tuple[Config, RunFolder], tmp_path: Path) -> None:
    from candletune.errors import InputError

    path = tmp_path / "reviews.jsonl"
    path.write_text('{"schema": 1}\n')
    with pytest.raises(InputError, match=r"reviews\.jsonl:1"):
        read_reviews(path)


def test_a_stale_tab_erases_nothing(browser: Browser, made: tuple[Config, RunFolder]) -> None:
    """Two tabs show an item without answers; the one that was left behind knows nothing of the other's."""
    browser.start("Ada")
    both = browser.version("/review/1")
    assert browser.post("/review/1", ANSWERS | {"preference": "slot0", "version": both}).status_code == 303
    before = stored(made)
    stale = browser.post("/review/1", {"slot0_clear": "1", "version": both}, headers={"accept": "application/json"})
    assert (stale.status_code, stored(made)) == (412, before)
    assert "changed elsewhere" in stale.text
    assert browser.post("/review/1", {"slot0_clear": "1", "version": ""}).status_code == 412
    # the same answers again are no conflict, and a page that was reloaded may change them
    assert browser.post("/review/1", ANSWERS | {"preference": "slot0", "version": both}).status_code == 303
    assert browser.post("/review/1", ANSWERS | {"preference": "equal"}).status_code == 303
    assert [review.preference for review in stored(made)] == ["equal"]


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0b", "\n"])
def test_a_cookie_that_breaks_lines_stops_nobody(letter: str, browser: Browser, made: tuple[Config, RunFolder]) -> None:
    browser.start("Ada")
    browser.post("/review/1", ANSWERS | {"preference": "equal"})
    browser.cookies.set("candletune_reviewer", quote(f"Ad{letter}a"), domain="127.0.0.1")
    assert browser.post("/review/1", ANSWERS | {"preference": "slot0", "version": "x"}).status_code == 403
    # what an earlier candletune wrote for such a name is read, and kept
    record = stored(made)[0].record() | {"reviewer": f"Ad{letter}a"}
    path = made[1].file("evaluation", "reviews.jsonl")
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    browser.cookies.clear()
    browser.start("Grace")
    assert browser.post("/review/2", ANSWERS | {"preference": "equal"}).status_code == 303
    assert sorted(review.reviewer for review in stored(made)) == sorted(["Ada", f"Ad{letter}a", "Grace"])
