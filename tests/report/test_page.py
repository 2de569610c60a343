"""The page of a small run: says the verdict first, escapes what it quotes, and asks the network for nothing."""

import re
from pathlib import Path

import pytest

from candletune.config import Config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.report.stage import STAGE
from candletune.runs import RunFolder, write_json

HOSTILE = "<script>alert('x')</script>"
VERDICT = {
    "verdict": "keep",
    "reason": f"The gain is too small. {HOSTILE}",
    "criteria": [
        {
            "name": "accuracy_gain",
            "description": "accuracy on BUY and SELL",
            "value": 0.012,
            "interval": [-0.04, 0.06],
            "limit": 0.05,
            "passed": False,
            "unit": "points",
        }
    ],
    "candidate": {},
    "incumbent": {},
    "forced": True,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    write_json(folder.file("evaluation", "verdict.json"), VERDICT)
    write_json(folder.file("evaluation", "metrics.json"), {"anything": {"nested": [1, 2]}})
    return folder


def page(run: RunFolder) -> str:
    STAGE.work(Config(), run, SilentReporter())
    return run.file("report", "index.html").read_text(encoding="utf-8")


def test_verdict_comes_first_in_words(run: RunFolder) -> None:
    html = page(run)
    assert "<h1>Keep the incumbent.</h1>" in html
    assert html.index("Keep the incumbent.</h1>") < html.index("<section")
    assert "Forced." in html
    assert "+1.2\N{NO-BREAK SPACE}pp" in html
    assert "\N{MINUS SIGN}4.0\N{NO-BREAK SPACE}pp to +6.0\N{NO-BREAK SPACE}pp" in html


def test_quoted_text_stays_text(run: RunFolder) -> None:
    html = page(run)
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(" in html


def test_nothing_is_loaded_from_a_network(run: RunFolder) -> None:
    html = page(run)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert "@import" not in html
    assert not re.search(r"url\((?!['\"]?(?:data:|#))", html.split("</style>")[0])


def test_missing_evaluation_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"verdict\.json"):
        STAGE.work(Config(), RunFolder(tmp_path), SilentReporter())
