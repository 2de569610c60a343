"""axe-core finds no serious issue on any page, at three widths, light and dark."""

from typing import Any

import pytest

from axe_issues import issues

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (390, "light"), (390, "dark")])
def test_no_serious_issue(served: Any, open_page: Any, axe: str, width: int, scheme: str) -> None:
    watched = open_page(width=width, scheme=scheme)
    page = watched.page
    found = {}
    page.goto(served.home)
    found["start"] = issues(page, axe)
    page.get_by_label("Your name").fill(f"Axe {width} {scheme}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/*")
    for key in "3211":
        page.keyboard.press(key)
    page.wait_for_selector("#state:text-is('Saved')")
    found["review"] = issues(page, axe)
    for path in ("/results", "/results?anyway=1", "/live", "/nowhere"):
        page.goto(served.home + path)
        found[path] = issues(page, axe)
    for path in (served.report, served.card):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        watched.draw_all()
        found[path] = issues(page, axe)
    assert found == {name: [] for name in found}
