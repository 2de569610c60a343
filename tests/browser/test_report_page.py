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


def test_charts_take_the_keyboard_and_have_their_numbers_as_a_table(served: Any, open_page: Any) -> None:
    page = open_page().page
    page.goto(served.report)
    for name in ("equity", "shares"):
        box = page.locator(f'[data-plot="{name}"]')
        box.focus()
        page.keyboard.press("End")
        figure = page.locator("figure", has=box)
        figure.locator(".readout:not(:empty)").wait_for()
        box.locator(".hoverlayer > *").first.wait_for(state="attached")
        figure.locator("summary").focus()
        page.keyboard.press("Enter")
        last = figure.locator(".numbers tbody tr").last
        assert figure.locator(".readout").inner_text().startswith(last.locator("th").inner_text())


def ready(page: Any) -> Any:
    """The calls' chart, drawn."""
    chart = page.locator("#calls-chart")
    chart.scroll_into_view_if_needed()
    page.wait_for_selector("#calls-chart[data-ready]")
    return chart


def test_calls_by_keyboard_ticker_and_period(served: Any, open_page: Any) -> None:
    from playwright.sync_api import expect  # asks by locator: the page's policy forbids a polled expression

    watched = open_page()
    page = watched.page
    page.goto(served.report)
    chart = ready(page)
    legend, readout = page.locator("#calls-legend"), page.locator("#calls-readout")
    whole = legend.inner_text()
    chart.focus()
    page.keyboard.press("Home")
    first = readout.inner_text()
    page.keyboard.press("ArrowRight")
    assert first.startswith("BTC") and readout.inner_text() != first
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(legend).not_to_have_text(whole)
    page.locator("#calls-ticker").select_option("ETH")
    page.locator("#calls-side").select_option("active")
    expect(legend).to_contain_text("Incumbent")
    chart.focus()
    page.keyboard.press("End")
    assert readout.inner_text().startswith("ETH")
    assert watched.complaints == []


def test_list_of_calls_filters_and_explains(served: Any, open_page: Any) -> None:
    page = open_page().page
    page.goto(served.report)
    ready(page)
    count = page.locator("#calls-count")
    assert count.inner_text().startswith("400 of 400")
    page.locator("select[name=shadow]").select_option("BUY")
    bought = int(count.inner_text().split()[0])
    assert 0 < bought < 400
    page.locator("select[name=shadow]").select_option("any")
    page.locator("select[name=only]").select_option("with a reason")
    assert count.inner_text().startswith("12 of 400")
    page.get_by_role("button", name="Reason:").first.click()
    detail = page.locator("td.why")
    assert "<script>" in detail.inner_text(), "a hostile reason is text"
    detail.get_by_text("The prompt").click()
    assert "DECISION" in detail.locator("pre").inner_text()
    assert page.get_by_role("button", name="Reason:").first.get_attribute("aria-expanded") == "true"
    assert page.locator("td.why img").count() == 0


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
    assert target.stat().st_size < 2_600_000
    watched = open_page()
    watched.page.goto(target.as_uri())
    watched.draw_all()
    assert watched.complaints == []
