"""The live view in a real browser: a row appended to the journal appears by itself."""

from typing import Any

import pytest

from candletune.journal import Journal
from simulated_run import live_row

pytestmark = pytest.mark.browser


def test_appended_row_appears(served: Any, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    page.goto(f"{served.home}/live")
    before = page.locator("tbody tr[data-key]").first.get_attribute("data-key")
    assert page.locator("svg.chart polyline").count() == 2
    row = live_row(served.config, 41)
    Journal(served.config.live.journal).append(row)
    fresh = page.locator("tr.fresh")
    fresh.wait_for()
    assert fresh.count() == 1
    assert fresh.get_attribute("data-key") != before
    assert "Updated" in page.locator("#state").inner_text()
    assert watched.complaints == []


def test_phone_does_not_scroll_sideways(served: Any, open_page: Any) -> None:
    page = open_page(width=400, scheme="dark").page
    page.goto(f"{served.home}/live")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
