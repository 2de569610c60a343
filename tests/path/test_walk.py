"""The path from the README: init, doctor, run, a week of shadow, evaluate, review, promote, retrain, rollback.

Everything goes through the command line, from two working folders, without a terminal, for an adapter and for a merged
export, on candles that end and later go on. The base is the tiny shape, hardly pre-trained: it knows the format and
nothing else, and the path must be walkable with a model that has found nothing. `CANDLETUNE_PROGRAM` names another
program to walk with, such as the one of an installed wheel.
"""

import json
import re
import signal
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from path_user import User, copy_candles, environment, stamped

FIRST_END = datetime(2025, 6, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
SECOND_END = datetime(2025, 6, 28, tzinfo=UTC)
SMALL = (
    "train.device=cpu",
    "train.max_steps=6",
    "train.effective_batch=8",
    "train.policy_steps=1",
    "train.learning_rate=5e-3",
    "train.eval_steps=3",
    "dataset.per_class=80",
    "dataset.natural_eval=40",
    "verify.prompts=10",
    "verify.min_agreement=0.95",  # forty rows of a model that has found nothing: one or two of them are ties
    "replay.limit=30",
    "replay.reasons=3",
    "evaluate.resamples=200",
    "engine.threads=1",
    "export.quantize=F16",  # after six steps most answers are nearly ties, which eight bits turn
)
"""What makes it small; nothing here is needed to make it work."""
pytestmark = [pytest.mark.slow, pytest.mark.llamacpp]


@pytest.fixture(scope="module")
def candles(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's freqtrade folder, as it was on 1 June 2025."""
    folder = tmp_path_factory.mktemp("freqtrade") / "user_data" / "data" / "binance"
    copy_candles(shared_data, folder, until=FIRST_END)
    return folder


def week_of_contexts(config: Path, settings: tuple[str, ...]) -> list[dict[str, Any]]:
    """What the user's own trader computed for every fourth hour of the week after the candles' end."""
    from candletune.config import load_config
    from candletune.dataset import decision_rows
    from candletune.prompts.context import context_of

    rows = decision_rows(load_config(config, settings), start=FIRST_END, end=FIRST_END + WEEK)
    keep = rows.filter(pl.col("decision_time").dt.hour() % 4 == 0)
    return [
        {"context": _plain(context_of(row)), "decision_time": row["decision_time"]}
        for row in keep.iter_rows(named=True)
    ]


def _plain(context: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(context, default=str))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["adapter", pytest.param("merged", marks=pytest.mark.long)])
def test_from_init_to_rollback(kind: str, shared_data: Path, candles: Path, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    data = tmp_path / "candles"
    copy_candles(candles, data, until=FIRST_END)
    user = User(settings=("base.model=tiny", f"export.kind={kind}", *SMALL))

    user.run("init", "--folder", str(data), cwd=project, bare=True)
    user.config = project / "candletune.toml"
    text = user.config.read_text(encoding="utf-8")
    user.run("doctor", cwd=project)
    # The timed steps of preflight are the adapter's walk to see.
    made = user.run("run", *(("--no-preflight",) if kind == "merged" else ()), cwd=project)
    assert re.search(r"^verdict: (keep|promote|not enough evidence)", made.stderr, re.M), made.stderr[-2000:]
    assert user.config.read_text(encoding="utf-8") == text, "the configuration was not to be edited"
    run = project / "runs" / "default"
    manifest = json.loads((run / "dataset" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["test_start"].startswith("2024-06-01"), "the last twelve months are kept out"
    assert (run / "report" / "index.html").is_file()
    assert "up to date" in user.run("run", cwd=elsewhere).stderr

    shadow_a_week(user, shared_data, data, elsewhere)
    judged = user.run("evaluate", "--journal", str(project / "live" / "ab_test_log.jsonl"), cwd=elsewhere)
    assert re.search(r"(keep|not enough evidence): ", judged.stderr), judged.stderr[-2000:]
    review(user, elsewhere)

    before = answer(user, elsewhere)
    user.run("promote", cwd=project, code=4)
    user.run("promote", "--force", "walking the path", cwd=elsewhere)
    first = answer(user, project)
    assert first["model"] != before["model"], "the promoted candidate answers, from any folder"
    assert answer(user, elsewhere) == first

    copy_candles(shared_data, data, until=SECOND_END)
    user.settings = (*user.settings, "train.learning_rate=1e-2")
    again = user.run("retrain", cwd=elsewhere)
    replayed = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"]["replay"]["summary"]
    assert replayed["incumbent"]["adapter_sha256"] == active_hash(project), "the active adapter is the incumbent"
    assert replayed["candidate"]["name"] != replayed["incumbent"]["name"], "two candidates, two names"
    assert "nothing new" in user.run("retrain", cwd=project).stderr, again.stderr[-2000:]
    user.run("promote", "--force", "walking on", cwd=project)
    second = answer(user, elsewhere)
    assert second["model"] != first["model"]
    user.run("rollback", "--reason", "end of the walk", cwd=elsewhere)
    assert answer(user, project) == first
    assert user.run("status", "--json", cwd=elsewhere).stdout.startswith("{")
    for stage in ("base", "dataset", "train", "export", "verify", "replay", "evaluate", "report"):
        assert "up to date" in user.run(stage, cwd=elsewhere).stderr


def active_hash(project: Path) -> str:
    """Of the adapter that the state file names."""
    state = json.loads((project / "live" / "active.json").read_text(encoding="utf-8"))
    return str(state["active"]["adapter_sha256"])


def answer(user: User, cwd: Path) -> dict[str, Any]:
    """One signal; what differs from call to call left out."""
    done = user.run("signal", cwd=cwd, stdin='{"ticker": "BTC", "price_usd": 97000, "rsi": 28.3}')
    found = json.loads(done.stdout)
    assert found["status"] == "ok"
    return {key: value for key, value in found.items() if not key.startswith("latency")}


def shadow_a_week(user: User, source: Path, data: Path, cwd: Path) -> None:
    """The trader asks minutes after each close, in a zone of its own; every row must find its outcome later."""
    copy_candles(source, data, until=FIRST_END + WEEK + timedelta(hours=12))
    assert user.config is not None
    rows = week_of_contexts(user.config, user.settings)
    delays = cycle([timedelta(seconds=7), timedelta(minutes=3, seconds=20), timedelta(minutes=55), timedelta(0)])
    done = user.run("shadow", "--stdin", cwd=cwd, stdin=stamped(rows, delays))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(rows) > 80
    assert {found["status"] for found in answers} == {"ok"}
    journal = user.config.parent / "live" / "ab_test_log.jsonl"
    written = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    times = {datetime.fromisoformat(row["timestamp"]) for row in written}
    assert times == {row["decision_time"] for row in rows}, "every stamp belongs to the candle that had closed"


def review(user: User, cwd: Path) -> None:
    """The page answers on loopback, and Ctrl-C ends it."""
    line = user.arguments("review", "--no-browser", "--port", "0")
    user.typed.add("review")
    with subprocess.Popen(line, cwd=cwd, stderr=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stderr is not None
        try:
            address = ""
            while not address:
                text = server.stderr.readline()
                assert text, "review ended before it served"
                found = re.search(r"http://\S+", text)
                address = found[0] if found else ""
            for _ in range(100):
                try:
                    with urllib.request.urlopen(address, timeout=10) as page:  # noqa: S310
                        assert b"review" in page.read().lower()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                pytest.fail(f"{address} did not answer")
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=20)
