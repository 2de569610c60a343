"""axe-core finds no serious issue on any page, in both colour schemes."""

from typing import Any

import pytest

from axe_issues import issues

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_issue(served: Any, open_page: Any, axe: str, scheme: str) -> None:
    watched = open_page(scheme=scheme)
    page = watched.page
    found = {}
    page.goto(served.home)
    found["start"] = issues(page, axe)
    page.get_by_label("Your name").fill(f"Axe {scheme}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/*")
    for key in "3211":
        page.keyboard.press(key)
    page.wait_for_selector("#state:text-is('Saved')")
    found["review"] = issues(page, axe)
    for path in ("/results", "/results?anyway=1", "/live", "/nowhere"):
        page.goto(served.home + path)
        found[path] = issues(page, axe)
    page.goto(served.report)
    watched.draw_all()
    found["report"] = issues(page, axe)
    assert found == {name: [] for name in found}
