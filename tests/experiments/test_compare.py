"""Runs side by side: what differs, who is paired with whom, and what is said of many at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import numpy as np
import polars as pl
import pytest

from candletune.artifacts import BaseSummary
from candletune.cli import main
from candletune.errors import InputError, UsageError
from candletune.evaluation.across_runs import compare_runs
from candletune.experiments.compare_page import comparison_page
from candletune.experiments.compare_table import WIDTH, comparison_text
from candletune.experiments.comparison import compare
from candletune.experiments.entrants import differing, names_of, read_entrant, read_entrants, reference_of, run_folders
from candletune.experiments.logged import logged_steps
from candletune.report.curves import Curve, curves
from candletune.runs import RunFolder
from simulated_run import make_run
from stage_entries import record_stage

START = datetime(2024, 1, 1, tzinfo=UTC)
HORIZON = timedelta(hours=12)


def scored_rows(right: float, seed: int, *, days: int = 240, scale: float = 1.0) -> pl.DataFrame:
    """Hourly calls on one coin, right with that chance; outcomes of twelve hours are the same for every seed."""
    market, rng = np.random.default_rng(1), np.random.default_rng(seed)
    moves = np.repeat(market.choice([-0.03, 0.03], days * 2), 12) * scale
    knows = np.repeat(rng.random(days * 2) < right, 12)
    up = (moves > 0) == knows
    outcome = np.where(moves > 0, "BUY", "SELL")
    return pl.DataFrame(
        {
            "timestamp": [START + timedelta(hours=hour) for hour in range(len(moves))],
            "ticker": "BTC",
            "forward_return": moves,
            "outcome": outcome,
            "shadow_action": np.where(up, "BUY", "SELL"),
            "shadow_p_buy": np.where(up, 0.6, 0.2),
            "shadow_p_sell": np.where(up, 0.2, 0.6),
            "shadow_p_hold": 0.2,
        }
    )


def test_a_better_candidate_is_found_and_equal_ones_are_not() -> None:
    scored = {
        "a": scored_rows(0.5, 2),
        "good": scored_rows(0.7, 3),
        **{f"b{k}": scored_rows(0.5, 10 + k) for k in range(6)},
    }
    found = compare_runs(scored, "a", move=0.01, horizon=HORIZON, confidence=0.95)
    assert found["good"].finding == "better"
    assert {found[f"b{k}"].finding for k in range(6)} == {"no difference shown"}
    assert found["good"].gain.value == pytest.approx(0.2, abs=0.08)
    low, high = found["good"].gain.bounds or (0.0, 0.0)
    assert 0 < low < high
    assert (found["good"].log_score.value or 0) > 0
    assert found["good"].rows == 240 * 24


def test_holms_correction_counts_all_that_were_compared() -> None:
    good = scored_rows(0.75, 3, days=120)
    alone = compare_runs(
        {"a": scored_rows(0.5, 2, days=120), "good": good}, "a", move=0.01, horizon=HORIZON, confidence=0.95
    )
    many = {f"b{k}": scored_rows(0.5, 10 + k, days=120) for k in range(9)}
    beside = compare_runs(
        {"a": scored_rows(0.5, 2, days=120), "good": good, **many}, "a", move=0.01, horizon=HORIZON, confidence=0.95
    )
    assert alone["good"].p_value == beside["good"].p_value == alone["good"].adjusted
    assert 0 < (alone["good"].p_value or 0) < 0.1
    assert beside["good"].adjusted == pytest.approx(10 * (alone["good"].p_value or 0))


def test_a_worse_candidate_is_told_from_both_tails() -> None:
    scored = {"a": scored_rows(0.7, 3), "bad": scored_rows(0.5, 2)}
    assert compare_runs(scored, "a", move=0.01, horizon=HORIZON, confidence=0.95)["bad"].finding == "worse"


def test_the_same_calls_are_no_difference() -> None:
    scored = {"a": scored_rows(0.6, 3), "copy": scored_rows(0.6, 3)}
    found = compare_runs(scored, "a", move=0.01, horizon=HORIZON, confidence=0.95)["copy"]
    assert (found.finding, found.p_value, found.gain.value) == ("no difference shown", 1.0, 0.0)


def test_another_market_is_not_compared() -> None:
    other = scored_rows(0.6, 3, scale=1.01)
    later = scored_rows(0.6, 3).with_columns(pl.col("timestamp") + timedelta(days=900))
    silent = scored_rows(0.6, 3).with_columns(shadow_action=pl.lit("HOLD"))
    found = compare_runs(
        {"a": scored_rows(0.5, 2), "other": other, "later": later, "silent": silent},
        "a",
        move=0.01,
        horizon=HORIZON,
        confidence=0.95,
    )
    assert "another market" in found["other"].problem
    assert "no decision time" in found["later"].problem
    assert "no BUY or SELL" in found["silent"].problem
    assert {pair.adjusted for pair in found.values()} == {None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two whole runs; the second was scored with another move."""
    folder = tmp_path_factory.mktemp("compare")
    paths = []
    for name, move in (("one", 0.01), ("two", 0.015)):
        _, run = make_run(folder / name, f"evaluate.move={move}", rows=300)
        run.train_metrics.parent.mkdir(parents=True)
        run.train_metrics.write_text(
            '{"step": 1, "loss": 2.5, "peak_gib": 3.25}\n{"step": 2, "eval_log_loss": 1.1}\n{"st'
        )
        paths.append(run.path)
    return paths


def test_what_differs_is_found(runs: list[Path]) -> None:
    entrants = read_entrants(runs)
    assert [entrant.name for entrant in entrants] == ["one/run", "two/run"]
    assert differing(entrants) == {"evaluate.move": ["0.01", "0.015"]}
    assert (entrants[0].peak_gib, entrants[1].move) == (3.25, 0.015)
    assert [step.step for step in entrants[0].steps] == [1, 2]


def test_text_and_page(runs: list[Path]) -> None:
    entrants = read_entrants(runs)
    compared = compare(entrants, reference_of(entrants, "two/run"))
    text = comparison_text(compared)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "Against two/run" in text
    page = comparison_page(compared)
    for wanted in ("evaluate.move", "3.25 GiB", "one/run", "p, Holm", "Training loss", "Calibration in the replay"):
        assert wanted in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_command(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as left:
        main(["compare", *map(str, runs), "--out", str(page)])
    assert left.value.code == 0
    assert "one/run" in capsys.readouterr().out
    assert page.stat().st_size < 200_000


def test_a_folder_of_runs_stands_for_them(runs: list[Path]) -> None:
    assert run_folders([runs[0].parent.parent]) == runs
    assert run_folders([runs[0], runs[0]]) == runs[:1]


def test_the_base_that_trials_share_is_no_run_to_compare(runs: list[Path], tmp_path: Path) -> None:
    base = RunFolder(tmp_path / "base")
    written = BaseSummary(file="gguf/base.gguf", sha256="a" * 64, bytes=1, type="F32", written=True)
    record_stage(base, written)
    copytree(runs[0], tmp_path / "trial")
    assert run_folders([tmp_path]) == [tmp_path / "trial"]


def test_what_is_no_run_is_refused(tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(InputError, match="no run folder"):
        run_folders([tmp_path])
    with pytest.raises(UsageError, match="not among the runs"):
        reference_of([read_entrant(runs[0], "one")], "three")


def test_a_run_that_was_only_begun(tmp_path: Path, runs: list[Path]) -> None:
    RunFolder(tmp_path / "new").manifest().write(tmp_path / "new" / "manifest.json")
    entrants = read_entrants([*runs, tmp_path / "new"])
    compared = compare(entrants, entrants[0])
    assert compared.paired["new"].problem == "not evaluated"
    assert "not trained" in comparison_text(compared)
    assert "not trained" in comparison_page(compared)


def test_names_are_as_long_as_it_takes() -> None:
    assert names_of([Path("/x/a/run"), Path("/x/b/run"), Path("/x/c")]) == ["a/run", "b/run", "c"]


def test_a_broken_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": "x"}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:2"):
        logged_steps(tmp_path / "metrics.jsonl")


def test_a_long_line_is_thinned_and_a_single_point_is_a_dot() -> None:
    drawn = curves(
        [Curve(0, "<b>", [(float(k), 1.0 / (k + 1)) for k in range(5000)])], name="x", label="x", across="step"
    )
    assert len(drawn) < 6000
    assert "&lt;b&gt;" in drawn
    assert "<circle" in curves([Curve(9, "one", [(1.0, 2.0)])], name="x", label="x", across="step")
    assert curves([Curve(0, "none", [(1.0, float("nan"))])], name="x", label="x", across="step") == ""
