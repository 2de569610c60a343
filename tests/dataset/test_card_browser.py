"""The dataset card in a real browser: every plot is drawn, nothing is asked of the network, it fits a phone."""

import shutil
from pathlib import Path

import pytest

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
PLOTS = 8


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    settings = ["simulate.enabled=true", "simulate.years=0.4", "dataset.per_class=30", f"run.folder='{folder}'"]
    config = load_config(None, settings)
    run, reporter = RunFolder(folder), SilentReporter()
    run_stage(STAGE, prepare(config, run, reporter), run, reporter)
    return run.file("dataset", "card.html")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; install it to look at the card")
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_card_opens(card: Path, width: int, scheme: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the dev extra (playwright)")
    with playwright.sync_playwright() as control:
        browser = control.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(card.as_uri())
        drawn = "[...document.querySelectorAll('[data-plot]')].filter(plot => plot.querySelector('.trace')).length"
        for plot in page.locator("[data-plot]").all():
            plot.scroll_into_view_if_needed()
        page.wait_for_function(f"{drawn} === {PLOTS}", timeout=15_000)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("details.example").count() == 6
        paper = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(paper)
        page.get_by_role("button", name="Light" if scheme == "dark" else "Dark").click()
        assert page.evaluate(paper) != before
        browser.close()
    assert problems == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
