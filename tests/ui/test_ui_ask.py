"""One question to several models: whom a page offers, who answers, what is loaded, and what is refused."""

import asyncio
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from fakes import FakeEngine

from candletune.config import Config
from candletune.decide import bare_base
from candletune.engines import Stopped
from candletune.errors import InputError
from candletune.runs import RunFolder
from candletune.web.asking import WAITING, Asker, Busy
from candletune.web.choices import choices_of, chosen_model, examples_of
from candletune.web.run_config import config_of
from candletune.web.ui import create_ui
from fake_exports import Opened, export
from simulated_run import make_run

PORT = 8557
HOME = f"http://127.0.0.1:{PORT}"
CONTEXT = '{"ticker": "BTC", "price_usd": 97000, "rsi": 28.3, "headlines": ["<script>alert(1)</script> 5 < 6"]}'
T = TypeVar("T")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """Two runs over one base, the first with two exports, and one over another base."""
    folder = tmp_path_factory.mktemp("ask")
    config, run = make_run(folder, f"run.folder={folder / 'runs' / 'first'}", rows=60)
    for name in ("second", "third"):
        shutil.copytree(run.path, folder / "runs" / name, ignore=shutil.ignore_patterns("candles"))
        export(RunFolder(folder / "runs" / name), name, "2026-11-01")
    RunFolder(folder / "runs" / "third").base_gguf.write_bytes(b"another base")
    export(run, "old", "2026-10-01")
    export(run, "new", "2026-11-02")
    return config, folder / "runs"


def on_a_loop(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class Page:
    """The page over engines without a model."""

    def __init__(self, made: tuple[Config, Path]) -> None:
        self.opened = Opened()
        self.asker = Asker(self.opened)
        self.app = create_ui(made[0], [made[1]], port=PORT, asker=self.asker)
        self.token = self.get("/ask").text.partition('name="token" value="')[2].partition('"')[0]

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=HOME) as client:
                return await client.request(method, path, **given)

        return on_a_loop(ask())

    def get(self, path: str) -> httpx.Response:
        return self.send("GET", path)

    def ask(self, model: str, context: str = CONTEXT, **fields: str) -> httpx.Response:
        form = {"token": self.token, "model": model, "context": context} | fields
        return self.send("POST", "/ask", data=form, headers={"origin": HOME})


@pytest.fixture
def page(made: tuple[Config, Path]) -> Page:
    return Page(made)


def test_a_page_offers_every_model_and_facts_of_the_replay(page: Page, made: tuple[Config, Path]) -> None:
    text = page.get("/ask?run=first").text
    first = RunFolder(made[1] / "first")
    picks = [choice.pick for choice in choices_of(config_of(first, made[0]), first)]
    assert len(picks) == 3, "two exports and the bare base"
    assert all(f'value="first {pick}"' in text for pick in picks)
    assert text.count(" checked") == 2, "the latest export of the run named, and of the next one"
    examples = examples_of(config_of(first, made[0]), first)
    assert len(examples) == 12
    answer = page.ask(f"first {picks[0]}", examples[0].context)
    assert answer.status_code == 200, answer.text


def test_models_of_one_base_share_it_and_another_base_takes_its_place(page: Page, made: tuple[Config, Path]) -> None:
    def said(name: str, place: int = 0) -> str:
        run = RunFolder(made[1] / name)
        choice = choices_of(config_of(run, made[0]), run)[place]
        answer = page.ask(f"{name} {choice.pick}")
        assert answer.status_code == 200, answer.text
        return answer.text

    new, old, base, other = said("first"), said("first", 1), said("first", 2), said("second")
    assert len({text.partition("<details>")[0] for text in (new, old, base, other)}) == 4, "each answers for itself"
    assert said("first").partition("· ")[2] == new.partition("· ")[2]
    assert page.opened.bases == ["first"]
    said("third")
    assert page.opened.bases == ["first", "third"]
    first, third = page.opened.engines
    assert isinstance(first, FakeEngine)
    assert isinstance(third, FakeEngine)
    assert (first.closed, third.closed) == (True, False), "one base at a time"
    page.asker.close()
    assert third.closed


def test_hostile_facts_stay_text(page: Page) -> None:
    answer = page.ask("first base")
    assert "<script" not in answer.text
    assert "5 &lt; 6" in answer.text


@pytest.mark.parametrize(
    ("model", "context", "status", "words"),
    [
        ("first base", "{", 422, "not valid JSON"),
        ("first base", '{"ticker": "BTC"}', 422, "context.price_usd: missing"),
        ("first ../../etc", CONTEXT, 422, "no such model"),
        ("first ffffffffffffffff", CONTEXT, 422, "no such model"),
        ("first", CONTEXT, 422, "no such model"),
        ("../first base", CONTEXT, 404, "no such run"),
        ("first base", "x" * 70_000, 413, "at most"),
    ],
)
def test_what_can_not_be_asked_is_said(page: Page, model: str, context: str, status: int, words: str) -> None:
    answer = page.ask(model, context)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_a_question_needs_the_token_and_our_origin(page: Page) -> None:
    assert page.ask("first base", token=page.token[:-1]).status_code == 403
    form = {"token": page.token, "model": "first base", "context": CONTEXT}
    assert page.send("POST", "/ask", data=form, headers={"origin": "https://evil.example"}).status_code == 403
    assert page.opened.engines == []


def test_a_base_that_is_missing_is_said(made: tuple[Config, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1] / "second", tmp_path / "alone")
    run = RunFolder(tmp_path / "alone")
    run.base_gguf.unlink()
    page = Page((made[0], tmp_path))
    answer = page.ask("alone base")
    assert answer.status_code == 422
    assert "the base is missing" in answer.text


def test_so_many_wait_at_most_and_the_end_stops_them(made: tuple[Config, Path]) -> None:
    run = RunFolder(made[1] / "second")
    config = config_of(run, made[0])

    async def many() -> list[Any]:
        asker = Asker(Opened())
        asker.end()
        context = {"ticker": "BTC", "price_usd": 1.0}
        questions = [asker.ask(config, run, bare_base(), context) for _ in range(WAITING + 3)]
        return await asyncio.gather(*questions, return_exceptions=True)

    kinds = [type(error) for error in on_a_loop(many())]
    assert (kinds.count(Stopped), kinds.count(Busy)) == (WAITING, 3)


def test_a_model_that_went_away_is_said(made: tuple[Config, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1] / "second", tmp_path / "gone")
    run = RunFolder(tmp_path / "gone")
    pick = choices_of(made[0], run)[0].pick
    run.adapter_gguf.unlink()
    with pytest.raises(InputError, match="no such adapter"):
        chosen_model(made[0], run, pick)
