"""`candletune ui` in a real browser: a training is followed as it goes, by keyboard and without losing the place."""

from typing import Any

import pytest

from axe_issues import issues
from simulated_run import log_steps

pytestmark = pytest.mark.browser


def test_a_training_is_followed_and_the_place_is_kept(served: Any, served_ui: str, open_page: Any) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # a busy machine sends and draws slowly
    watched = open_page()
    page = watched.page
    page.goto(f"{served_ui}/run/run/")
    box = page.locator("#curves-loss")
    box.focus()
    page.keyboard.press("End")
    expect(page.locator("figure", has=box).locator(".readout")).to_have_text("step 60: 0.033")
    page.locator("#drawing-1 summary").click()
    box.focus()
    log_steps(served.run, 61, 120)
    expect(page.locator("#stream-state")).to_contain_text("Updated")
    expect(page.locator("#drawing-1 .numbers tr").last).to_contain_text("step 120")
    assert page.evaluate("document.activeElement.id") == "curves-loss"
    page.keyboard.press("End")
    expect(page.locator("figure", has=box).locator(".readout")).to_have_text("step 120: 0.017")
    assert watched.complaints == []


def test_from_the_start_page_to_a_comparison_and_back(served_ui: str, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    page.goto(served_ui)
    page.get_by_label("Compare run").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?run=run")
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("link", name="run", exact=True).click()
    page.get_by_role("link", name="Report", exact=True).click()
    assert page.locator("h1").count() == 1
    page.get_by_role("link", name="‹ run").click()
    page.wait_for_url("**/run/run/")
    assert watched.complaints == []


def test_one_question_to_three_models_by_keyboard(served_ui: str, open_page: Any, axe: str) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # a busy machine sends and draws slowly
    watched = open_page(width=390, scheme="dark")
    page = watched.page
    page.goto(f"{served_ui}/ask")
    expect(page.locator("#outcome")).to_contain_text("What happened: ")
    page.locator("#example").select_option(index=3)
    for box in page.locator('input[name="model"]').all():
        box.focus()
        if not box.is_checked():
            page.keyboard.press("Space")
    page.get_by_role("button", name="Ask").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#ask-state")).to_have_text("3 answered")
    expect(page.locator("#ask-stop")).to_be_hidden()
    answers = page.locator("#answers .answer")
    assert answers.count() == 3
    assert answers.locator(".decision").count() == 3
    page.locator("#context").fill("{")
    expect(page.locator("#outcome")).to_have_text("")
    page.get_by_role("button", name="Ask").click()
    expect(answers.first).to_contain_text("not valid JSON")
    assert issues(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert [text for text in watched.complaints if "422" not in text] == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (390, "light")])
def test_no_serious_issue_and_no_scrolling_sideways(
    served_ui: str, open_page: Any, axe: str, width: int, scheme: str
) -> None:
    page = open_page(width=width, scheme=scheme).page
    found = {}
    for path in (
        "/",
        "/ask",
        "/run/run/",
        "/compare",
        "/run/run/start",
        "/run/run/live",
        "/run/run/report",
        "/run/nowhere/",
    ):
        page.goto(served_ui + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if path.endswith("/"):
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        found[path] = issues(page, axe)
    assert found == {name: [] for name in found}
