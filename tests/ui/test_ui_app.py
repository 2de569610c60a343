"""`candletune ui` over HTTP: which runs it finds, whom it answers, and what follows a run as it goes."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import HTTPException

from candletune.artifacts import RunManifest
from candletune.cli import main
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.runs import RunFolder
from candletune.stages.progress import keep_progress
from candletune.stages.report import STAGE
from candletune.stages.runner import run_stage
from candletune.web.run_config import config_of
from candletune.web.run_list import RunList, run_folders_below
from candletune.web.stream import MOST, Streams
from candletune.web.ui import create_ui
from simulated_run import make_run

PORT = 8556
HOME = f"http://127.0.0.1:{PORT}"
HOSTILE = "<img src=x onerror=alert(1)> & 100%"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A reported run, and beside it one of a hostile name that has only begun."""
    folder = tmp_path_factory.mktemp("ui")
    config, run = make_run(folder, f"run.folder={folder / 'runs' / 'first'}", rows=120)
    with run.lock():
        run_stage(STAGE, config, run, SilentReporter())
    other = RunFolder(folder / "runs" / HOSTILE)
    shutil.copytree(run.path, other.path, ignore=shutil.ignore_patterns("report", "candles"))
    return config, folder / "runs"


def ask(made: tuple[Config, Path], path: str, **given: Any) -> httpx.Response:
    app = create_ui(*made[:1], [made[1]], port=PORT)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
            return await client.request(given.pop("method", "GET"), path, **given)

    return asyncio.run(send())


def test_every_page_of_a_run_is_reached_from_the_start_page(made: tuple[Config, Path]) -> None:
    home = ask(made, "/")
    assert home.status_code == 200
    assert 'href="/run/first/"' in home.text
    assert HOSTILE not in home.text
    for path in ("", "start", "live", "results", "report", "card", "events-of-nobody"):
        answer = ask(made, f"/run/first/{path}")
        assert answer.status_code == (404 if path == "events-of-nobody" else 200), path
        assert 'href="/run/first/"' in answer.text, f"{path}: a way back"
    assert ask(made, "/run/nobody/").status_code == 404
    assert "no such run" in ask(made, "/run/nobody/").text


def test_a_hostile_name_is_text_and_its_address_works(made: tuple[Config, Path]) -> None:
    (key,) = (listed.key for listed in RunList([made[1]]).find() if listed.key != "first")
    answer = ask(made, f"/run/{quote(key)}/")
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert f'action="/run/{quote(key)}/review/start"' in ask(made, f"/run/{quote(key)}/start").text


@pytest.mark.parametrize("path", ["/", "/events", "/compare", "/run/first/", "/run/first/report", "/run/first/events"])
def test_a_foreign_host_or_origin_gets_nothing(made: tuple[Config, Path], path: str) -> None:
    assert ask(made, path, headers={"host": "evil.example"}).status_code == 403
    assert ask(made, path, headers={"origin": "https://evil.example"}).status_code == 403


def test_a_review_within_the_app_keeps_to_its_run(made: tuple[Config, Path]) -> None:
    app = create_ui(made[0], [made[1]], port=PORT)

    async def session() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
            start = await client.get("/run/first/start")
            token = start.text.partition('name="token" value="')[2].partition('"')[0]
            form = {"token": token, "reviewer": "Ada"}
            begun = await client.post("/run/first/review/start", data=form, headers={"origin": HOME})
            shown = await client.get("/run/first/review", follow_redirects=True)
            return begun, shown

    begun, shown = asyncio.run(session())
    assert begun.headers["location"] == "/run/first/review"
    assert shown.url.path == "/run/first/review/1"
    assert 'action="/run/first/review/1"' in shown.text


def test_compared_are_the_runs_that_were_chosen(made: tuple[Config, Path]) -> None:
    assert "2 runs compared" in ask(made, "/compare").text
    one = ask(made, "/compare", params={"run": "first"})
    assert "1 runs compared" in one.text or "One run" in one.text
    assert ask(made, "/compare", params={"run": "../first"}).status_code == 404
    assert ask(made, "/compare", params={"run": ["first"] * 51}).status_code == 200, "each once"


def test_runs_are_found_where_commands_put_them(tmp_path: Path) -> None:
    for place in ("a", "a/walk/2021-01-01", "a/sweep/trial-000", "deep/er/b"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "dataset").mkdir()
        (folder / "dataset" / "manifest.json").write_text('{"rows": 3}')
        entry = {"fingerprint": "f", "inputs": {}, "settings": {}, "outputs": {}, "summary": {}, "seconds": 1.0}
        stages = {"dataset": entry | {"finished": "2026-01-01T00:00:00+00:00", "versions": {}}}
        (folder / "manifest.json").write_text(json.dumps({"version": 1, "stages": stages}))
    begun = RunFolder(tmp_path / "begun")
    begun.path.mkdir()
    with keep_progress(SilentReporter(), begun, "dataset"):
        found = {path.relative_to(tmp_path).as_posix() for path in run_folders_below(tmp_path)}
        rows = {row.name: row for row in RunList([tmp_path]).rows()}
    assert found == {"a", "a/walk/2021-01-01", "a/sweep/trial-000", "deep/er/b", "begun"}
    assert rows["begun"].alive
    assert RunList([tmp_path / "a"]).get("a~walk~2021-01-01") is None
    assert [listed.key for listed in RunList([tmp_path / "a"]).find()] == ["a", "sweep~trial-000", "walk~2021-01-01"]


def test_a_run_without_a_verdict_says_how_far_it_is(made: tuple[Config, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1] / "first", tmp_path / "some", ignore=shutil.ignore_patterns("candles", "evaluation"))
    (row,) = RunList([tmp_path]).rows()
    assert (row.verdict, row.accuracy) == ("not evaluated", "–")


def test_a_new_run_is_found_though_folders_are_looked_through_seldom(tmp_path: Path) -> None:
    runs = RunList([tmp_path], keep_seconds=3600)
    assert runs.find() == []
    new = RunFolder(tmp_path / "new")
    new.path.mkdir()
    with keep_progress(SilentReporter(), new, "dataset"):
        assert runs.find() == [], "not looked again yet"
        found = runs.get("new")
    assert found is not None
    assert found.run.path == new.path


def test_a_broken_run_is_said_and_hides_no_other(made: tuple[Config, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1], tmp_path / "runs", ignore=shutil.ignore_patterns("candles"))
    (tmp_path / "runs" / "first" / "evaluation" / "verdict.json").write_text("{")
    rows = {row.name: row for row in RunList([tmp_path / "runs"]).rows()}
    assert "verdict.json" in rows["first"].problem
    assert rows[HOSTILE].verdict
    answer = ask((made[0], tmp_path / "runs"), "/run/first/")
    assert answer.status_code == 409
    assert "verdict.json" in answer.text


def test_a_run_is_looked_at_with_its_own_settings(made: tuple[Config, Path]) -> None:
    config, root = made
    run = RunFolder(root / "first")
    stranger = load_config(None, ["run.folder=/nowhere/at/all", "evaluate.move=0.5", "data.pairs=DOGE/USDT:USDT"])
    seen = config_of(run, stranger)
    assert (seen.evaluate, seen.labels, seen.review.items) == (config.evaluate, config.labels, config.review.items)
    assert (seen.data, seen.simulate, seen.seed) == (config.data, config.simulate, config.seed)
    assert seen.run.folder == run.path
    manifest = run.manifest()
    entry = manifest.stages["evaluate"]
    broken = entry.model_copy(update={"settings": {"evaluate": {"move": -1}}})
    other = RunFolder(root / HOSTILE)
    kept = other.manifest_file.read_bytes()
    RunManifest(stages={"evaluate": broken}).write(other.manifest_file)
    with pytest.raises(InputError, match=r"another version of candletune \(evaluate\.move"):
        config_of(other, stranger)
    other.manifest_file.write_bytes(kept)


def parts(events: AsyncIterable[Any], wanted: int) -> Any:
    """The next events that carry something: kind and content."""

    async def read() -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        async for event in events:
            lines = dict(line.split(": ", 1) for line in str(event).splitlines() if ": " in line)
            if "data" in lines:
                found.append((lines["event"], json.loads(lines["data"])))
            if len(found) == wanted:
                break
        return found

    return read()


def test_a_stream_sends_what_changed_and_says_what_is_broken() -> None:
    said = ["one", "one", "two", InputError("x.jsonl:3: broken"), "two"]
    streams = Streams(every=0.001)

    def look() -> str:
        value = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(value, InputError):
            raise value
        return str(value)

    async def follow() -> list[tuple[str, str]]:
        return list(await parts(streams.of(look).body_iterator, 4))

    got = asyncio.run(follow())
    assert got == [("part", "one"), ("part", "two"), ("trouble", "x.jsonl:3: broken"), ("part", "two")]


def test_streams_end_with_the_server_and_are_so_many_at_most() -> None:
    async def follow() -> None:
        streams = Streams(every=0.001)
        running = streams.of(lambda: "same").body_iterator
        assert await parts(running, 1) == [("part", "same")]
        assert streams.open == 1
        streams.open = MOST
        with pytest.raises(HTTPException, match="followed already"):
            streams.of(lambda: "more")
        streams.end()
        assert [event async for event in running if "data" in str(event)] == []
        assert streams.open == MOST - 1

    asyncio.run(follow())


def test_a_folder_that_is_not_there_is_said_before_anything_is_served(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["ui", str(tmp_path / "nowhere"), "--no-browser", "--port", "0"])
    assert caught.value.code == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
