"""The report in a real browser: charts drawn, both themes, a phone, no console message, no request."""

from pathlib import Path
from typing import Any

import pytest

from candletune.console import SilentReporter
from candletune.stages.report import STAGE
from simulated_run import make_run

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "scheme"), [(1240, "light"), (1240, "dark"), (400, "light"), (400, "dark")])
def test_every_chart_is_drawn_without_a_complaint(served: Any, open_page: Any, width: int, scheme: str) -> None:
    watched = open_page(width=width, scheme=scheme)
    watched.page.goto(served.report)
    watched.draw_all()
    assert watched.page.locator("[data-plot] .main-svg").count() >= watched.page.locator("[data-plot]").count() >= 8
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width


def test_theme_button_recolours_page_and_charts(served: Any, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    page.goto(served.report)
    watched.draw_all()
    look = "[getComputedStyle(document.body).backgroundColor, document.querySelector('[data-plot] text').style.fill]"
    light = page.evaluate(look)
    page.get_by_role("button", name="Dark").click()
    page.wait_for_timeout(1000)
    dark = page.evaluate(look)
    assert (light[0] != dark[0], light[1] != dark[1]) == (True, True)
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"


def test_verdict_is_on_the_first_screen(served: Any, open_page: Any) -> None:
    for width, height in ((1240, 900), (400, 850)):
        page = open_page(width=width, height=height).page
        page.goto(served.report)
        box = page.locator("h1").bounding_box()
        assert box["y"] + box["height"] < height


def test_hostile_reason_stays_text(served: Any, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    page.goto(served.report)
    watched.draw_all()
    assert "owned" not in page.title()
    assert page.locator("img").count() == 0
    assert page.get_by_text("<script>document.title='owned'</script>").count() > 0


def test_print_draws_everything_in_light_colours(served: Any, open_page: Any) -> None:
    page = open_page(scheme="dark").page
    page.goto(served.report)
    page.pdf()
    page.wait_for_selector("[data-plot]:not([data-drawn])", state="detached")


@pytest.mark.slow
def test_ten_thousand_rows_stay_small_and_open(tmp_path: Path, open_page: Any) -> None:
    config, run = make_run(tmp_path, "simulate.years=1.2", rows=10_000)
    STAGE.work(config, run, SilentReporter())
    target = run.file("report", "index.html")
    assert target.stat().st_size < 6_000_000
    watched = open_page()
    watched.page.goto(target.as_uri())
    watched.draw_all()
    assert watched.complaints == []
