"""The evaluate stage over whole, broken and mixed journals, and over a shadow test's."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from candletune.config import Config, EvaluateConfig
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.files import read_json, write_json
from candletune.journal import Journal
from candletune.runs import RunFolder
from candletune.stages.evaluate import STAGE, evaluate, notes
from candletune.stages.runner import run_stage
from people_run import journal_rows, make_run

Made = tuple[Config, RunFolder]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_run(tmp_path_factory.mktemp("evaluated"), rows=600)


def judge(made: Made, lines: list[str], tmp_path: Path, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    """Evaluate a journal of these lines as a shadow test's; metrics.json and the warnings."""
    config, run = made
    journal = tmp_path / "ab_test_log.jsonl"
    tmp_path.mkdir(exist_ok=True)
    journal.write_text("".join(lines))
    changes = {"journal": journal, "baselines": False} | changes
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})
    copy = RunFolder(tmp_path / "run")
    copy.file("dataset").mkdir(parents=True)
    copy.file("dataset", "manifest.json").write_bytes(run.file("dataset", "manifest.json").read_bytes())
    reporter = SilentReporter()
    evaluate(config, copy, reporter)
    found: dict[str, Any] = read_json(copy.file("evaluation", "metrics.json"))
    return found, reporter.warnings


@pytest.fixture(scope="module")
def lines(made: Made) -> list[str]:
    return made[1].file("replay", "ab_test_log.jsonl").read_text().splitlines(keepends=True)


def test_what_a_whole_run_leaves(made: Made) -> None:
    run = made[1]
    found = read_json(run.file("evaluation", "metrics.json"))
    verdict = read_json(run.file("evaluation", "verdict.json"))
    assert found["shadow"]["rows"] == 600
    assert found["shadow"]["accuracy_signals"] > found["active"]["accuracy_signals"] + 0.2
    # held against outcomes of other times, the same calls do worse
    assert found["controls"]["shadow"]["as_good"] < 0.02
    names = {"majority class", "previous label", "RSI rule", "trend rule", "logistic regression", "gradient boosting"}
    assert set(found["baselines"]) >= names
    assert set(found["regimes"]) == {"calm", "middling", "wild"}
    assert sum(entry["rows"] for entry in found["regimes"].values()) == 600
    assert found["grounding"]["shadow"]["reasons"] == 12
    assert found["grounding"]["matched"] == 12
    low, high = (found["comparison"]["accuracy_signals"][key] for key in ("low", "high"))
    assert low < found["shadow"]["accuracy_signals"] - found["active"]["accuracy_signals"] < high
    assert verdict["candidate"] == {"name": "new", "adapter_sha256": "b" * 64}
    assert {item["kind"] for item in verdict["criteria"]} == {"plan", "evidence"}
    scored = pl.read_parquet(run.file("evaluation", "scored.parquet"))
    assert len(scored) == 600


def test_everything_is_shown_on_screen(made: Made) -> None:
    class Heard(SilentReporter):
        text = ""

        def say(self, message: str) -> None:
            self.text += message + "\n"

    heard = Heard()
    with made[1].lock():
        outcome = run_stage(STAGE, *made, heard, force=True)
    for word in ("candidate", "incumbent", "gradient boosting", "accuracy gain", "effective samples", "holds"):
        assert word in heard.text, word
    assert outcome.summary["verdict"] in {"keep", "promote", "not enough evidence"}


def test_the_untuned_base_is_a_baseline_where_it_was_asked(made: Made) -> None:
    config, run = made
    scored = pl.read_parquet(run.file("evaluation", "scored.parquet"))
    base = scored[::2].select("timestamp", "ticker", action=pl.lit("BUY"))
    base.write_parquet(run.file("replay", "untuned_base.parquet"))
    with run.lock():
        assert not run_stage(STAGE, config, run, SilentReporter()).skipped
    found = read_json(run.file("evaluation", "metrics.json"))["baselines"]["untuned base"]
    rises = scored[::2].filter(pl.col("forward_return").is_not_null())["forward_return"] > config.evaluate.move
    assert found["rows"] == len(rises)
    assert found["accuracy_signals"] == pytest.approx(rises.mean())
    assert found["lead"]["value"] is not None


def test_a_shadow_journal_is_judged_alike(made: Made, lines: list[str], tmp_path: Path) -> None:
    found, warnings = judge(made, lines, tmp_path)
    replayed = read_json(made[1].file("evaluation", "metrics.json"))
    assert found["comparison"] == replayed["comparison"]
    assert warnings == []
    verdict = read_json(tmp_path / "run" / "evaluation" / "verdict.json")
    assert verdict["candidate"] == {"name": "b" * 12, "adapter_sha256": "b" * 64}


def test_broken_lines_are_counted(made: Made, lines: list[str], tmp_path: Path) -> None:
    mixed = [*lines[:10], "{ half\n", *lines[10:], lines[3], lines[599][:40]]
    found, warnings = judge(made, mixed, tmp_path)
    assert found["problems"] == {"torn": 1, "broken": 1, "duplicates": 1}
    assert found["shadow"]["rows"] == 600
    assert "left out 1 torn and 1 broken lines and 1 duplicates" in warnings[0]


def test_order_in_the_file_does_not_matter(made: Made, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = judge(made, lines, tmp_path / "a")[0]
    turned = judge(made, lines[::-1], tmp_path / "b")[0]
    assert turned["journal"]["out_of_order"] == 299
    assert straight["journal"]["out_of_order"] == 0
    assert turned["comparison"] == straight["comparison"]
    for side in ("active", "shadow"):
        assert turned[side]["flip_rate"] == straight[side]["flip_rate"]


def change(line: str, side: str | None, **values: Any) -> str:
    row = json.loads(line)
    (row if side is None else row[side]).update(values)
    return json.dumps(row) + "\n"


@pytest.mark.parametrize(
    ("side", "values", "words"),
    [
        ("shadow", {"adapter_sha256": "d" * 64}, "2 different values of shadow_adapter"),
        ("active", {"adapter_sha256": None}, "2 different values of active_adapter"),
        (None, {"template_sha256": "u"}, "2 different values of template_sha256"),
        (None, {"base_sha256": "u"}, "2 different values of base_sha256"),
        (None, {"schema": 2}, "schema 2, expected 1"),
        (None, {"timestamp": "2022-05-01T00:00:00Z"}, "1 rows are before"),
    ],
)
def test_mixed_journals_are_refused(
    side: str | None, values: dict[str, Any], words: str, made: Made, lines: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        judge(made, [*lines[:-1], change(lines[-1], side, **values)], tmp_path)


def test_a_later_start_leaves_out_what_was_before(made: Made, lines: list[str], tmp_path: Path) -> None:
    from candletune.journal import parse_time

    mixed = [change(line, "shadow", adapter_sha256="d" * 64) for line in lines[:100]] + lines[100:]
    start = parse_time(json.loads(lines[100])["timestamp"])
    assert judge(made, mixed, tmp_path, start=start)[0]["shadow"]["rows"] == 500
    with pytest.raises(InputError, match="holds no rows to judge"):
        judge(made, lines, tmp_path / "none", start=start.replace(year=2030))


def test_errors_and_skips_are_not_answers(made: Made, lines: list[str], tmp_path: Path) -> None:
    silent = {"action": None, "probabilities": None, "adapter_sha256": None}
    mixed = [change(line, "shadow", status="skipped", **silent) for line in lines[:60]]
    mixed += [change(line, "shadow", status="error", **silent) for line in lines[60:90]] + lines[90:]
    found = judge(made, mixed, tmp_path)[0]
    assert found["shadow"]["status"] == {"ok": 510, "invalid": 0, "skipped": 60, "error": 30}
    assert found["comparison"]["coverage"] == pytest.approx(510 / 600)
    assert sum(map(sum, found["shadow"]["confusion"])) == 510


def test_a_candidate_without_skill_is_not_promoted(made: Made, tmp_path: Path) -> None:
    rows = journal_rows(made[0], 600)
    path = tmp_path / "swapped.jsonl"
    Journal(path).append_many(rows)
    swapped = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        row["active"], row["shadow"] = row["shadow"], row["active"]
        swapped.append(json.dumps(row) + "\n")
    judge(made, swapped, tmp_path)
    verdict = read_json(tmp_path / "run" / "evaluation" / "verdict.json")
    assert verdict["verdict"] == "keep"
    assert any("what chance gives" in note for note in verdict["notes"])


def test_notes_say_what_is_missing() -> None:
    found: dict[str, Any] = {
        "comparison": {"days_needed": 90.4, "days": 30.0},
        "shadow": {"accuracy_signals": 0.4},
        "baselines": {"RSI rule": {"accuracy_signals": 0.5, "lead": {"low": -0.2}}},
        "controls": {"shadow": {"as_good": 0.5}},
    }
    said = " ".join(notes(found, EvaluateConfig()))
    assert "about 60 more are needed" in said
    assert "does not clearly beat: RSI rule" in said
    assert "in 50% of the shifts" in said
    found["comparison"]["days_needed"] = 10.0
    found["baselines"]["RSI rule"]["lead"]["low"] = 0.1
    found["controls"]["shadow"] = None
    assert "The reasons are not reviewed by people (40 a model are wanted)" in notes(found, EvaluateConfig())[0]
    assert notes(found, EvaluateConfig(criteria="plan")) == []
    assert notes(found | {"reviews": {"items": 40}}, EvaluateConfig()) == []


def test_no_replay_no_verdict(made: Made, tmp_path: Path) -> None:
    config, _ = made
    run = RunFolder(tmp_path)
    write_json(run.file("manifest.json"), {"version": 1, "stages": {}})
    with pytest.raises(InputError, match=r"ab_test_log\.jsonl"):
        evaluate(config, run, SilentReporter())
