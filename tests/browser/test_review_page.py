"""The review in a real browser: a whole session by keyboard, a reload in the middle, two reviewers, hostile text."""

from typing import Any

import pytest

from candletune.evaluation.review.reviews import Review, read_reviews

pytestmark = pytest.mark.browser


def reviews(served: Any, name: str) -> list[Review]:
    return [r for r in read_reviews(served.run.file("evaluation", "reviews.jsonl")) if r.reviewer == name]


def start(page: Any, home: str, name: str) -> None:
    page.goto(home)
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/*")


def answer(page: Any, keys: str) -> None:
    """Press digits, each answer saved before the next page."""
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_selector("#state:text-is('Saved')")


def test_whole_session_by_keyboard_with_a_reload_in_the_middle(served: Any, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    start(page, served.home, "Ada")
    answer(page, "3213")
    page.reload()
    assert page.locator("input:checked").count() == 4
    answer(page, "212")
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/2")
    page.keyboard.press("p")
    page.wait_for_url("**/review/1")
    assert page.locator("input:checked").count() == 7
    page.keyboard.press("Enter")
    for number in range(2, 7):
        page.wait_for_url(f"**/review/{number}")
        answer(page, "3322112")
        page.keyboard.press("Enter")
    page.wait_for_url("**/results")
    assert len(reviews(served, "Ada")) == 6
    assert all(review.complete for review in reviews(served, "Ada"))
    assert page.get_by_text("Preference").count() == 1
    assert watched.complaints == []
    assert {url.split("/")[2] for url in watched.requests if url.startswith("http")} == {served.home.split("/")[2]}


def test_enter_with_an_open_question_stays(served: Any, open_page: Any) -> None:
    page = open_page().page
    start(page, served.home, "Edsger")
    answer(page, "33")
    page.keyboard.press("Enter")
    page.get_by_text("One question is still open.").wait_for()
    assert page.url.endswith("/review/1")


def test_two_reviewers_do_not_see_each_other(served: Any, open_page: Any) -> None:
    first, second = open_page().page, open_page().page
    start(first, served.home, "Grace")
    answer(first, "1111113")
    start(second, served.home, "Barbara")
    assert second.locator("input:checked").count() == 0
    answer(second, "3333331")
    assert [len(reviews(served, name)) for name in ("Grace", "Barbara")] == [1, 1]
    first.reload()
    assert first.locator("input:checked").count() == 7


def test_answer_is_on_disk_when_the_page_says_saved(served: Any, open_page: Any) -> None:
    page = open_page().page
    start(page, served.home, "Alan")
    answer(page, "2")
    (review,) = reviews(served, "Alan")
    assert sum(len(scores) for scores in review.scores.values()) == 1


def test_mouse_and_screen_reader_reach_every_answer(served: Any, open_page: Any) -> None:
    page = open_page(width=400).page
    start(page, served.home, "Radia")
    group = page.get_by_role("group", name="Which reason is better?")
    group.get_by_role("radio", name="equal").check()
    page.wait_for_selector("#state:text-is('Saved')")
    assert reviews(served, "Radia")[0].preference == "equal"
    assert page.get_by_role("radio").count() == 21
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_hostile_reason_stays_text(served: Any, open_page: Any) -> None:
    page = open_page().page
    start(page, served.home, "Mallory")
    assert "owned" not in page.title()
    assert page.locator("blockquote img").count() == 0
    assert "<script>" in page.locator("blockquote").first.inner_text()


def test_lost_server_is_said(served: Any, open_page: Any) -> None:
    page = open_page().page
    start(page, served.home, "Ken")
    page.route("**/review/1", lambda route: route.abort())
    page.keyboard.press("1")
    page.get_by_text("Not saved").wait_for()
