"""Reviews feed the evaluation: a new one makes it out of date, and a bad opinion of the reasons blocks promotion."""

from pathlib import Path
from typing import Any

import pytest

from candletune.config import Config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.evaluation.review.reviews import QUALITIES, Preference, Review, ReviewStore
from candletune.evaluation.review.sample import load_sample
from candletune.evaluation.source import evaluation_files
from candletune.files import read_json
from candletune.journal.rows import sealed
from candletune.runs import RunFolder
from candletune.stages.evaluate import STAGE
from candletune.stages.report import STAGE as REPORT
from candletune.stages.runner import run_stage
from simulated_run import make_run

Made = tuple[Config, RunFolder]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(
        tmp_path_factory.mktemp("reviewed"), "review.items=12", "evaluate.min_reviewed=10", "evaluate.baselines=false"
    )


def review_all(made: Made, candidate: int, *, items: int = 12, preference: Preference = "active") -> None:
    """One reviewer gives the incumbent full marks and the candidate `candidate` for everything."""
    store = ReviewStore(made[1].reviews)
    scores = {side: dict.fromkeys(QUALITIES, mark) for side, mark in (("active", 3), ("shadow", candidate))}
    for item in load_sample(*made, prompts=False)[:items]:
        review = Review(item=item.key, reviewer="Ada", scores=scores, preference=preference)
        store.save(review, over=store.of("Ada").get(item.key, Review(item.key, "Ada")).version)


def judged(made: Made) -> tuple[bool, dict[str, Any], dict[str, Any], list[str]]:
    """Whether the stage was up to date, metrics.json, the criterion, and the warnings."""
    reporter = SilentReporter()
    with made[1].lock():
        skipped = run_stage(STAGE, *made, reporter).skipped
    files = evaluation_files(*made)
    verdict = read_json(files.verdict)
    criterion = next(item for item in verdict["criteria"] if item["name"] == "reviewed")
    criterion["verdict"], criterion["notes"] = verdict["verdict"], " ".join(verdict["notes"])
    return skipped, read_json(files.metrics), criterion, reporter.warnings


def page(made: Made) -> str:
    with made[1].lock():
        run_stage(REPORT, *made, SilentReporter())
    return " ".join(made[1].file("report", "index.html").read_text(encoding="utf-8").split())


def test_from_no_review_to_a_bad_one_and_back(made: Made) -> None:
    skipped, metrics, criterion, _ = judged(made)
    assert skipped
    assert metrics["reviews"] is None
    assert criterion["passed"] is None
    assert "The reasons are not reviewed by people (10 a model are wanted)" in criterion["notes"]
    html = page(made)
    assert "criteria hold, 1 is open" in html
    assert "not reviewed: 0 of 10 reasons a model" in html

    review_all(made, 1, items=9)
    assert "Reviews changed after the evaluation" in page(made)
    skipped, metrics, criterion, _ = judged(made)
    assert not skipped
    assert metrics["reviews"]["items"] == 9
    assert "not reviewed: 9 of 10" in criterion["description"]

    review_all(made, 1)
    _, metrics, criterion, _ = judged(made)
    assert metrics["reviews"]["differences"]["grounded"]["value"] == -1.0
    assert metrics["reviews"]["preference"]["active"] == 12
    assert (criterion["passed"], criterion["verdict"]) == (False, "keep")
    assert "not reviewed" not in criterion["notes"]
    html = page(made)
    assert "Reviews changed after the evaluation" not in html
    assert "12 blind reviews of 12 of 12 items" in html

    review_all(made, 3, preference="equal")
    skipped, _, criterion, _ = judged(made)
    assert not skipped
    assert (criterion["passed"], criterion["value"]) == (True, 0.0)


def rewritten(lines: str) -> bytes:
    """Rows that were changed, with checksums of their own."""
    bodies = (line[: line.rindex(',"crc32"')] + "}" for line in lines.splitlines())
    return b"".join(sealed(body.encode()) + b"\n" for body in bodies)


def test_reviews_of_other_models_do_not_count(made: Made, tmp_path: Path) -> None:
    """A shadow test of another candidate is judged in the same run folder."""
    config, run = made
    review_all(made, 1)
    lines = run.file("replay", "ab_test_log.jsonl").read_text(encoding="utf-8")
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_bytes(rewritten(lines.replace("b" * 64, "d" * 64).replace("RSI", "MACD")))
    other = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": journal})})
    _, metrics, criterion, warnings = judged((other, run))
    assert metrics["reviews"] is None
    assert criterion["passed"] is None
    assert "holds no finished review of these models' reasons" in warnings[-1]
    journal.write_text(lines, encoding="utf-8")
    assert judged((other, run))[2]["passed"] is False


def test_reasons_that_are_gone_do_not_count_and_broken_lines_are_named(made: Made) -> None:
    config, run = made
    replay, reviews = run.file("replay", "ab_test_log.jsonl"), run.reviews
    review_all(made, 1)
    before = replay.read_text(encoding="utf-8")
    replay.write_bytes(rewritten(before.replace("RSI", "MACD")))
    assert judged(made)[2]["passed"] is None
    replay.write_text(before, encoding="utf-8")
    kept = reviews.read_text(encoding="utf-8")
    reviews.write_text(kept + "{}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"reviews\.jsonl:13: not a review"):
        judged((config, run))
    reviews.write_text(kept, encoding="utf-8")


def test_what_a_machine_can_check_is_checked_before_people_do(made: Made) -> None:
    for item in load_sample(*made):
        for side in ("active", "shadow"):
            (claim,) = item.claims[side]
            assert claim.text in item.reasons[side]
            assert claim.holds
    assert all(item.claims == {} for item in load_sample(*made, prompts=False))


def test_a_growing_journal_keeps_what_is_reviewed(made: Made, tmp_path: Path) -> None:
    """A shadow week is reviewed while it runs: new rows must not push reviewed reasons out of the sample."""
    config, run = made
    lines = run.journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_text("".join(lines[:8]) + "{ broken\n" + lines[0], encoding="utf-8")
    review = config.review.model_copy(update={"journal": journal, "items": 4})
    shadow = config.model_copy(update={"review": review})
    first = load_sample(shadow, run)
    assert len(first) == 4
    assert all(item.prompt for item in first)
    assert [item.key for item in load_sample(shadow, run)] == [item.key for item in first]
    journal.write_text("".join(lines), encoding="utf-8")
    grown = load_sample(shadow, run, prompts=False, reviewed={item.key for item in first})
    assert {item.key for item in first} <= {item.key for item in grown}
    assert 4 <= len(grown) <= 8


def test_a_shadow_weeks_reviews_count_for_its_verdict(made: Made, tmp_path: Path) -> None:
    config, run = made
    run.reviews.unlink(missing_ok=True)
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_bytes(rewritten(run.journal.read_text(encoding="utf-8").replace("RSI", "MACD")))
    reviewing = config.model_copy(update={"review": config.review.model_copy(update={"journal": journal})})
    judging = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": journal})})
    review_all((reviewing, run), 1)
    assert judged((judging, run))[2]["passed"] is False
    assert judged(made)[2]["passed"] is None


def test_a_shadow_week_without_a_replay_is_reviewed(made: Made, tmp_path: Path) -> None:
    config, run = made
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_bytes(run.journal.read_bytes())
    live = config.model_copy(update={"live": config.live.model_copy(update={"journal": journal})})
    assert len(load_sample(live, RunFolder(tmp_path / "new"))) == 12
    with pytest.raises(InputError, match=r"candletune replay"):
        load_sample(config, RunFolder(tmp_path / "new"))
