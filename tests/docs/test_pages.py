"""The pages hang together: each is in the navigation, and every link leads to a file and a heading that are there."""

import re
from pathlib import Path

import pytest
from doc_commands import FENCE, PAGES, ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as the site names them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_navigation_has_every_page_once() -> None:
    listed = re.findall(r"^ +- (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        # Commands are headings that the site writes from the code.
        if anchor and target.suffix == ".md" and target.name != "commands.md":
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_one_term_for_one_thing(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    for other, term in {
        "own class shares": "base rates",
        "natural class shares": "base rates",
        "natural prior ": "base rates",
        "effective number": "effective sample size",
        "deepest fall": "maximum drawdown",
    }.items():
        assert other not in text, f"{page.name}: {other}; say {term}"
