"""The comparison in a real browser: both colour schemes, a phone, no serious issue, fifty runs at once."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from axe_issues import issues
from candletune.artifacts import LoggedStep
from candletune.experiments.compare_page import comparison_page
from candletune.experiments.comparison import compare
from candletune.experiments.entrants import Entrant, read_entrant
from simulated_run import make_run

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty runs made of one: each with settings, calls and curves of its own, and one with a hostile name."""
    folder = tmp_path_factory.mktemp("fifty")
    _, run = make_run(folder, rows=300)
    one = read_entrant(run.path, "one")
    entrants = [_like(one, place) for place in range(50)]
    path = folder / "compare.html"
    path.write_text(comparison_page(compare(entrants, entrants[0])), encoding="utf-8")
    return path


def _like(one: Entrant, place: int) -> Entrant:
    assert one.scored is not None
    shifted = one.scored.with_columns(pl.col("shadow_action").shift(place, fill_value="HOLD").over("ticker"))
    return Entrant(
        name=HOSTILE if place == 7 else f"trial-{place:03}",
        path=one.path,
        settings={**one.settings, "train.lora_rank": str(4 + place), "train.learning_rate": f"{2e-4 / (1 + place):g}"},
        steps=[LoggedStep(step=k, loss=2.0 / (k + place + 1), eval_log_loss=1.1 - 0.001 * k) for k in range(300)],
        training=one.training,
        certificate=one.certificate,
        verdict=one.verdict,
        metrics=one.metrics,
        scored=shifted,
        seconds=one.seconds,
    )


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (390, "light"), (390, "dark")])
def test_it_reads_on_every_screen(page_file: Path, open_page: Any, axe: str, width: int, scheme: str) -> None:
    watched = open_page(width=width, scheme=scheme)
    page = watched.page
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("svg.curves").count() == 3
    assert (watched.complaints, page.title()) == ([], "50 runs compared")
    assert [url for url in watched.requests if not url.startswith(("file:", "data:"))] == []
    assert issues(page, axe) == []


def test_a_chosen_run_stands_out(page_file: Path, open_page: Any) -> None:
    page = open_page().page
    page.goto(page_file.as_uri())
    look = "getComputedStyle(document.querySelector('svg.curves [data-run=\"%d\"]')).opacity"
    page.get_by_role("button", name="trial-003").click()
    assert (page.evaluate(look % 3), page.evaluate(look % 4)) == ("1", "0.13")
    page.get_by_role("button", name="trial-003").click()
    assert page.evaluate(look % 4) == "1"
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_curves_take_the_keyboard_and_have_their_numbers_as_a_table(page_file: Path, open_page: Any) -> None:
    watched = open_page()
    page = watched.page
    page.goto(page_file.as_uri())
    for figure in page.locator("figure").all():
        figure.locator(".curvebox").focus()
        for key in ("End", "ArrowDown", "ArrowLeft", "ArrowRight"):
            page.keyboard.press(key)
        readout = figure.locator(".readout").inner_text()
        figure.locator("summary").focus()
        page.keyboard.press("Enter")
        last = figure.locator("table").nth(1).locator("tr").last
        told = f"{last.locator('th').inner_text()}: {last.locator('td').inner_text()} (trial-001, line 2 of 50)"
        assert readout == told
    last = page.locator("figure").first.locator("table").first.locator("tr").last
    assert float(last.inner_text().split()[2]) == pytest.approx((2 / 299 + 2 / 300) / 2, abs=1e-3)
    assert watched.complaints == []


def test_fifty_runs_stay_small(page_file: Path) -> None:
    assert page_file.stat().st_size < 700_000
