"""Plain words, one for one thing; every page says who it is for; common questions are two clicks from the README."""

import re
from pathlib import Path

import pytest
from doc_commands import PAGES, ROOT

from check_words import faults, pages, spoken

DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#([^)]+))?\)")
QUESTIONS = {
    "Which file goes to my trader?": "custom-trading-lora.gguf",
    "Why did it say keep?": "`keep`",
    "What is a flip?": "consecutive decisions of a ticker that differ",
    "How long until there can be a promote?": "months",
    "Do I need a GPU?": "card",
    "Does any data leave my machine?": "loopback",
    "Can it use my own prompt?": "prompt",
    "How do I go back?": "rollback",
    "Why is training at 2 % and judging at 1 %?": "evaluate.move",
    "Are the reasons true?": "reason",
    "Can I try ten settings and keep the best?": "eval split",
    "It stopped. Is my training lost?": "Ctrl-C",
}
"""A reader's question, and words that its answer must hold."""
TERMS = ("Base rates", "Effective sample size", "Balanced accuracy", "Maximum drawdown", "Coverage", "Flip", "The plan")


@pytest.mark.parametrize("path", [*pages(), *spoken()], ids=lambda path: path.name)
def test_words_that_readers_stumbled_over_are_gone(path: Path) -> None:
    assert not list(faults(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "line", "instead"),
    [
        ("A model\nthat is unbeaten.", 2, "baseline"),
        ("at life's\nclass shares", 1, "base rates"),
        ("It grew × 10,898.", 1, "no return"),
        ("`unbeaten`\n```\nunbeaten\n```\nwhether a reason\nis why", 5, "decided"),
        ("a market that nobody can foretell", 1, "predict"),
    ],
)
def test_a_bad_word_is_found(text: str, line: int, instead: str) -> None:
    found = list(faults(text))
    assert found and found[0][0] == line and instead in found[0][2]


def test_good_words_pass() -> None:
    text = "That is why the verdict is `keep`: 2,000 rows × 2 models, at the base rates."
    assert not list(faults(text))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_page_says_who_it_is_for(page: Path) -> None:
    assert re.match(r"# [^\n]+\n\n\*For [^\n]{20,}\.\*\n", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_plan_is_introduced(page: Path) -> None:
    """Where a page first speaks of the plan, or before, it says which with a link."""
    text = re.sub(r"^## Packages.*", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```|`[^`\n]+`|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    mention = re.search(r"\bthe plan\b", text, re.IGNORECASE)
    if mention and page.name != "plan.md":
        end = text.find("\n\n", mention.end())
        assert "plan.md" in text[: end if end > 0 else None]


def test_the_glossary_has_the_terms() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    defined = re.findall(r"^\*\*(.+?)\*\*\n:   ", text, re.MULTILINE)
    assert set(TERMS) <= set(defined) and len(defined) == len(set(defined)) > 20


def section(target: Path, anchor: str) -> str:
    """The text that a link leads to: from the heading on to the next of its rank, or the whole page."""
    text = target.read_text(encoding="utf-8")
    if not anchor:
        return text
    for heading in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE):
        if re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading[2]).strip().lower()) == anchor:
            rest = text[heading.end() :]
            after = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
            return rest[: after.start()] if after else rest
    raise LookupError(anchor)


def test_questions_are_answered_within_two_clicks_of_the_readme() -> None:
    first = {target for target, _ in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert "docs/questions.md" in first
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \|$", (DOCS / "questions.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    answers = {question: read for question, _, read in rows[2:]}
    assert answers.keys() == QUESTIONS.keys()
    for question, words in QUESTIONS.items():
        ((target, anchor),) = LINK.findall(answers[question])
        assert words in section(DOCS / target, anchor), question


def test_what_nobody_has_run_is_said_where_it_is_promised() -> None:
    """The first page that speaks of a 10 GB card says that none was used."""
    assert "Nobody has run it on a 10 GB card" in section(ROOT / "README.md", "ministral-8b-on-a-10-gb-gpu")
