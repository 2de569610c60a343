"""The evaluate stage over whole, broken and mixed journals, and over a shadow test's."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from candletune.artifacts import EvaluateSummary, Metrics, StageSummary, Verdict
from candletune.artifacts.metrics import Grounding, Interval, SideGrounding
from candletune.config import Config, EvaluateConfig
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.evaluation.live import live_view
from candletune.evaluation.measure import notes_of
from candletune.evaluation.stamps import warn_if_nothing_is_known
from candletune.evaluation.tries import ledger_of
from candletune.files import read_json, write_json
from candletune.gguf.header import MANIFEST_KEY
from candletune.hashes import sha256_path
from candletune.journal import Journal, format_time, parse_time
from candletune.journal.rows import sealed
from candletune.market.candles import load_candles
from candletune.runs import RunFolder
from candletune.stages import STAGES, pipeline
from candletune.stages.evaluate import STAGE, evaluate
from candletune.stages.runner import Stage, StageOutcome, run_stage
from simulated_run import journal_rows, make_run

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
    found: dict[str, Any] = read_json(copy.shadow_metrics)
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
    assert found["controls"]["shadow"]["p_value"] < 0.02
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
    words = ("candidate", "incumbent", "gradient boosting", "accuracy gain", "effective samples", "holds")
    for word in words:
        assert word in heard.text, word
    again = Heard()
    with made[1].lock():
        assert run_stage(STAGE, *made, again).skipped
    assert again.text == heard.text
    assert outcome.summary_as(EvaluateSummary).verdict in {"keep", "promote", "not enough evidence"}


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
    verdict = read_json(tmp_path / "run" / "evaluation" / "shadow_verdict.json")
    assert verdict["candidate"] == {"name": "b" * 12, "adapter_sha256": "b" * 64}


def test_a_shadow_evaluation_leaves_the_replays_alone(made: Made, lines: list[str], tmp_path: Path) -> None:
    config, run = made
    before = {path: path.read_bytes() for path in (run.verdict, run.metrics, run.scored)}
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_text("".join(lines[:300]))
    shadow = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"journal": journal, "baselines": False})}
    )
    with run.lock():
        assert not run_stage(STAGE, shadow, run, SilentReporter()).skipped
        assert run_stage(STAGE, shadow, run, SilentReporter()).skipped
        assert run_stage(STAGE, config, run, SilentReporter()).skipped
    assert {path: path.read_bytes() for path in before} == before
    assert Verdict.read(run.shadow_verdict).source == "shadow"
    assert Verdict.read(run.shadow_verdict).rows == 300
    assert Metrics.read(run.shadow_metrics).shadow.rows == 300


def test_no_look_takes_a_verdict_away(made: Made, lines: list[str], tmp_path: Path) -> None:
    """A verdict that allowed promotion is still there after a later look said something else."""
    config, run = made
    kept = set(run.verdicts.glob("*.json"))
    later = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"max_class_share": 0.1})})
    with run.lock():
        run_stage(STAGE, later, run, SilentReporter())
    assert Verdict.read(run.verdict).verdict == "keep"
    (new,) = set(run.verdicts.glob("*.json")) - kept
    assert new.name.endswith("Z-bbbbbbbb-aaaaaaaa.json")
    assert Verdict.read(new) == Verdict.read(run.verdict)
    assert all(path.is_file() for path in kept)
    with run.lock():
        run_stage(STAGE, config, run, SilentReporter())


def test_before_an_outcome_there_is_no_verdict(made: Made, lines: list[str], tmp_path: Path) -> None:
    """A shadow test's first hours: every window reaches beyond the candles."""
    config = made[0]
    last = load_candles(config.data.folder, config.data.pairs[0], config.data.timeframe).frame["date"][-1]
    early = [change(lines[0], None, timestamp=format_time(last - timedelta(hours=h))) for h in range(3)]
    warnings = judge(made, early, tmp_path)[1]
    assert (
        f"not one of 3 rows has an outcome, so nothing can be judged: the newest candle closed at {last:%Y-%m-%d}"
        in (warnings[-1])
    )
    verdict = Verdict.read(tmp_path / "run" / "evaluation" / "shadow_verdict.json")
    assert (verdict.verdict, verdict.reason) == ("not enough evidence", "no outcome is known yet")


def test_a_journal_is_judged_where_nothing_was_trained(made: Made, lines: list[str], tmp_path: Path) -> None:
    config = made[0]
    journal = tmp_path / "ab_test_log.jsonl"
    journal.write_text("".join(lines))
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": journal})})
    run, reporter = RunFolder(tmp_path / "bare"), SilentReporter()
    with run.lock():
        run_stage(STAGE, config, run, reporter)
    assert Metrics.read(run.shadow_metrics).baselines == {}
    assert "nobody checked whether the training saw these rows" in reporter.warnings[0]


def test_the_live_page_scores_as_evaluate_does(made: Made, lines: list[str], tmp_path: Path) -> None:
    """One journal, one score: outcomes, accuracy, intervals, agreement and evidence are the same numbers."""
    silent = {"action": None, "probabilities": None, "adapter_sha256": None}
    mixed = [change(line, "shadow", status="invalid", **silent) for line in lines[:40]] + lines[40:]
    metrics, _ = judge(made, mixed, tmp_path)
    journal = tmp_path / "ab_test_log.jsonl"
    view = live_view(made[0].model_copy(update={"live": made[0].live.model_copy(update={"journal": journal})}))
    assert view.comparison is not None
    assert view.comparison.model_dump(mode="json") == metrics["comparison"]
    for side in ("active", "shadow"):
        found, known = view.sides[side], metrics[side]
        assert (found.accuracy, found.signals) == (known["accuracy_signals"], known["signals"])
        assert found.shares == {name: share for name, share in known["shares"].items() if share}
        assert found.statuses == {name: count for name, count in known["status"].items() if count}
        assert view.running is not None
        assert view.running.sides[side].value[-1] == pytest.approx(known["accuracy_signals"], abs=1e-5)
    assert view.decided == 600 - metrics["active"]["pending"]
    scored = pl.read_parquet(tmp_path / "run" / "evaluation" / "shadow_scored.parquet")
    newest = scored.sort("timestamp", "ticker", descending=True).head(len(view.latest))
    for column in ("forward_return", "active_correct", "shadow_correct"):
        assert [row[column] for row in view.latest] == newest[column].to_list()


def test_the_live_page_shows_the_models_that_answer_now(made: Made, lines: list[str], tmp_path: Path) -> None:
    journal = tmp_path / "ab_test_log.jsonl"
    earlier = [change(line, "shadow", adapter_sha256="d" * 64) for line in lines[:100]]
    journal.write_text("".join([*earlier, *lines[100:]]))
    view = live_view(made[0].model_copy(update={"live": made[0].live.model_copy(update={"journal": journal})}))
    assert (view.rows, view.other_models) == (600, 100)
    with pytest.raises(InputError, match=r"evaluate\.start=2022-"):
        judge(made, [*earlier, *lines[100:]], tmp_path / "mixed")


def test_the_live_page_shows_whatever_a_journal_holds(made: Made, lines: list[str], tmp_path: Path) -> None:
    """One only looks: no answer, no outcome and a ticker without candles are shown, never refused."""
    journal = tmp_path / "ab_test_log.jsonl"
    config = made[0].model_copy(update={"live": made[0].live.model_copy(update={"journal": journal})})
    assert not live_view(config).exists
    journal.write_text("")
    assert (live_view(config).exists, live_view(config).rows, live_view(config).comparison) == (True, 0, None)
    silent = {"status": "error", "action": None, "probabilities": None, "adapter_sha256": None}
    journal.write_text("".join(change(line, "shadow", **silent) for line in lines[:60]))
    view = live_view(config)
    assert view.comparison is not None
    assert (view.sides["shadow"].accuracy, view.sides["shadow"].interval, view.running) == (None, None, None)
    # two months; 50 windows of 12 hours side by side would be there after 25 days
    assert (view.comparison.effective, view.days_left) == (0.0, 60.0 - view.comparison.days)
    journal.write_text("".join(change(line, None, ticker="DOGE") for line in lines[:60:2]))
    view = live_view(config)
    assert (view.rows, view.decided, view.answered) == (30, 0, 30)


def test_the_pipeline_judges_its_replay(made: Made, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal named in the configuration is for `evaluate`; the report of `run` needs the replay's verdict."""
    config, run = made
    shadow = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": Path("ab.jsonl")})})
    journals = []

    def run_stage(stage: Stage, config: Config, *_: Any, **__: Any) -> StageOutcome:
        journals.append(config.evaluate.journal)
        return StageOutcome(stage.name, StageSummary(), skipped=True, seconds=0.0)

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    with run.lock():
        pipeline.run_pipeline(shadow, run, SilentReporter())
    assert len(journals) == len(STAGES)
    assert set(journals) == {None}


def test_the_pipeline_registers_its_replay_before_it_begins(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = made
    done: list[str] = []

    def run_stage(stage: Stage, *_: Any, **__: Any) -> StageOutcome:
        done.append(stage.name)
        return StageOutcome(stage.name, StageSummary(), skipped=True, seconds=0.0)

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    monkeypatch.setattr(pipeline, "register", lambda *_: done.append("registered"))
    with run.lock():
        pipeline.run_pipeline(config, run, SilentReporter(), registered=True)
    assert done[done.index("replay") - 1] == "registered"
    assert done.count("registered") == 1


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


def written(row: dict[str, Any]) -> str:
    """A row that was changed, with a checksum of its own."""
    row.pop("crc32")
    return sealed(json.dumps(row).encode()).decode() + "\n"


def change(line: str, side: str | None, **values: Any) -> str:
    row = json.loads(line)
    (row if side is None else row[side]).update(values)
    return written(row)


@pytest.mark.parametrize(
    ("side", "values", "words"),
    [
        ("shadow", {"adapter_sha256": "d" * 64}, "2 different values of shadow_adapter"),
        ("active", {"adapter_sha256": None}, "2 different values of active_adapter"),
        (None, {"template_sha256": "u"}, "2 different values of template_sha256"),
        (None, {"base_sha256": "u"}, "2 different values of base_sha256"),
        (None, {"schema": 3}, "schema 3, expected at most 2"),
        (None, {"timestamp": "2022-05-01T00:00:00Z"}, "1 rows are before"),
    ],
)
def test_mixed_journals_are_refused(
    side: str | None, values: dict[str, Any], words: str, made: Made, lines: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        judge(made, [*lines[:-1], change(lines[-1], side, **values)], tmp_path)


def test_a_later_start_leaves_out_what_was_before(made: Made, lines: list[str], tmp_path: Path) -> None:
    mixed = [change(line, "shadow", adapter_sha256="d" * 64) for line in lines[:100]] + lines[100:]
    start = parse_time(json.loads(lines[100])["timestamp"])
    assert judge(made, mixed, tmp_path, start=start)[0]["shadow"]["rows"] == 500
    with pytest.raises(InputError, match="holds no rows to judge"):
        judge(made, lines, tmp_path / "none", start=start.replace(year=2030))


def test_rows_stamped_off_the_grid_get_their_outcomes(made: Made, lines: list[str], tmp_path: Path) -> None:
    """Rows stamped `now` used to join no outcome: every one was pending, the verdict `keep`, and nobody said why."""
    straight = judge(made, lines, tmp_path / "straight")[0]
    off = [
        change(
            line, None, timestamp=format_time(parse_time(json.loads(line)["timestamp"]) + timedelta(minutes=n % 59 + 1))
        )
        for n, line in enumerate(lines)
    ]
    again = change(off[10], "shadow", action="HOLD")
    later = format_time(parse_time(json.loads(off[10])["timestamp"]) + timedelta(seconds=30))
    found, warnings = judge(made, [*off, change(again, None, timestamp=later)], tmp_path / "off")
    assert "601 of 601 rows are not stamped with the close of a 1h candle" in warnings[0]
    assert "1 came in a candle that had a row already and are left out" in warnings[0]
    assert found["journal"]["moved"] == 601
    assert found["comparison"]["accuracy_signals"] == straight["comparison"]["accuracy_signals"]
    assert found["shadow"]["pending"] == straight["shadow"]["pending"] == 0
    journal = tmp_path / "off" / "ab_test_log.jsonl"
    view = live_view(made[0].model_copy(update={"live": made[0].live.model_copy(update={"journal": journal})}))
    assert view.decided == 600


@pytest.mark.parametrize(
    ("ticker", "horizon", "words"),
    [
        ("BTC", 12, "candles are missing after the decisions"),
        ("BTC", 10_000, "bring the candles up to date, or wait"),
        ("DOGE", 12, "there are no candles of these tickers"),
    ],
)
def test_why_nothing_is_known_is_said(ticker: str, horizon: int, words: str, made: Made) -> None:
    config = made[0].model_copy(update={"labels": made[0].labels.model_copy(update={"horizon": horizon})})
    pending = pl.DataFrame(
        {"timestamp": [parse_time("2022-06-02T00:00:00Z")], "ticker": ticker, "forward_return": None}
    )
    reporter = SilentReporter()
    warn_if_nothing_is_known(pending, config, reporter)
    assert words in reporter.warnings[0]


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
        swapped.append(written(row))
    judge(made, swapped, tmp_path)
    verdict = read_json(tmp_path / "run" / "evaluation" / "shadow_verdict.json")
    assert verdict["verdict"] == "keep"
    assert any("what chance gives" in note for note in verdict["notes"])


def test_notes_say_what_is_missing(made: Made) -> None:
    measured = Metrics.read(made[1].metrics)

    def notes(days: float, lead: float, p_value: float | None, criteria: Literal["full", "plan"] = "full") -> str:
        control = measured.controls["shadow"]
        assert control is not None
        baseline = measured.baselines["RSI rule"]
        shown = measured.model_copy(
            update={
                "comparison": measured.comparison.model_copy(update={"days_needed": days, "days": 30.0}),
                "baselines": {
                    "RSI rule": baseline.model_copy(
                        update={
                            "lead": Interval(value=lead, low=lead, high=lead),
                            "adjusted": 0.001 if lead > 0 else 0.7,
                        }
                    )
                },
                "controls": {"shadow": None if p_value is None else control.model_copy(update={"p_value": p_value})},
            }
        )
        return " ".join(notes_of(shown, EvaluateConfig(criteria=criteria)))

    everything = notes(90.4, -0.2, 0.5)
    assert "about 60 more are needed" in everything
    assert "does not clearly beat: RSI rule" in everything
    assert "in 50% of the shifts" in everything
    beaten = "The candidate clearly beats (all baselines asked at once): RSI rule."
    assert notes(10.0, 0.1, None).startswith(f"{beaten} The reasons are not reviewed by people (40 a model are wanted)")
    alone = "By the plan's three criteria alone: this verdict promotes nothing without --force."
    assert notes(10.0, 0.1, None, "plan") == f"{beaten} {alone}"


def test_false_reasons_are_said_whatever_the_verdict(made: Made) -> None:
    def notes(true: int, interval: tuple[float, float] | None) -> str:
        side = SideGrounding(
            reasons=25,
            checked=25 if interval else 0,
            true=true,
            rate=true / 25 if interval else None,
            interval=interval,
            claims=60,
            claims_true=0.5,
            false=(),
        )
        told = Grounding(rows=25, matched=25, active=side.model_copy(update={"true": 6}), shadow=side)
        return " ".join(
            notes_of(Metrics.read(made[1].metrics).model_copy(update={"grounding": told}), EvaluateConfig())
        )

    assert "true in 0 of 25 of them (incumbent: 6 of 25)" in notes(0, (0.0, 0.13))
    assert "not to be believed" not in notes(24, (0.80, 0.99))
    assert "not to be believed" not in notes(0, None)


def test_no_replay_no_verdict(made: Made, tmp_path: Path) -> None:
    config, _ = made
    run = RunFolder(tmp_path)
    write_json(run.file("manifest.json"), {"version": 1, "stages": {}})
    with pytest.raises(InputError, match=r"ab_test_log\.jsonl"):
        evaluate(config, run, SilentReporter())


def test_every_verdict_on_the_same_candles_spends_of_one_budget(tmp_path: Path) -> None:
    """A second candidate in another run folder is the second try; a forced look at the first is none."""
    config, run = make_run(tmp_path / "first", "evaluate.baselines=false", rows=200)
    spent = Verdict.read(run.verdict).spent
    assert spent is not None
    assert (spent.number, spent.level, spent.registered) == (1, 0.025, None)
    with run.lock():
        run_stage(STAGE, config, run, SilentReporter(), force=True)
    assert Verdict.read(run.verdict).spent == spent
    entry = ledger_of(config).tries()[spent.try_id]
    assert (entry.looks, entry.verdict) == (1, Verdict.read(run.verdict).verdict)
    assert set(entry.line.closes) == {"BTC", "ETH"}
    journal = tmp_path / "other.jsonl"
    text = run.journal.read_text().replace("b" * 64, "d" * 64)
    journal.write_text("".join(written(json.loads(line)) for line in text.splitlines()))
    other = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"journal": journal})})
    second = RunFolder(tmp_path / "second")
    before = Metrics.read(run.metrics).comparison
    with second.lock():
        run_stage(STAGE, other, second, SilentReporter())
    verdict = Verdict.read(second.shadow_verdict)
    assert verdict.spent is not None
    assert verdict.spent.number == 2
    assert verdict.spent.level == pytest.approx(0.0075)
    assert any("This is try 2 on these candles." in note for note in verdict.notes)
    after = Metrics.read(second.shadow_metrics).comparison
    assert after.accuracy_signals == before.accuracy_signals
    assert before.alpha == pytest.approx(0.025)
    assert after.alpha == verdict.spent.level
    assert before.days_needed is not None and after.days_needed is not None
    assert after.days_needed > before.days_needed


def write_adapter(path: Path, train_end: str | None) -> str:
    """A GGUF that says when its training ended; returns its hash."""
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.add_string(MANIFEST_KEY, json.dumps({"train_end": train_end, "dataset_sha256": path.name}))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return sha256_path(path)


@pytest.mark.parametrize("role", ["candidate", "incumbent"])
def test_a_shadow_journals_rows_are_held_against_both_adapters_own_files(
    role: str, made: Made, lines: list[str], tmp_path: Path
) -> None:
    """The run's dataset ends before these rows; one of the two files was trained on the first of them."""
    config, run = made[0], RunFolder(tmp_path / "run")
    first, middle = (json.loads(lines[n])["timestamp"] for n in (0, 300))
    early, late = first.replace("2022-06", "2022-05"), middle
    digests = {
        "shadow": write_adapter(run.adapter_gguf, late if role == "candidate" else early),
        "active": write_adapter(tmp_path / "old.gguf", late if role == "incumbent" else None),
    }
    journal = tmp_path / "ab_test_log.jsonl"
    both = [json.loads(line) for line in lines]
    for row in both:
        for side, digest in digests.items():
            row[side]["adapter_sha256"] = digest
    journal.write_text("".join(map(written, both)))
    changes = {"journal": journal, "baselines": False, "ledger": tmp_path / "ledger.jsonl"}
    config = config.model_copy(
        update={
            "evaluate": config.evaluate.model_copy(update=changes),
            "incumbent": config.incumbent.model_copy(update={"adapter": tmp_path / "old.gguf"}),
        }
    )
    with pytest.raises(InputError, match=rf"rows are before .*, the end of the {role}'s training data plus purge"):
        evaluate(config, run, SilentReporter())
    assert not (tmp_path / "ledger.jsonl").exists()  # what is refused is no try
    start = parse_time(json.loads(lines[330])["timestamp"])
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"start": start})})
    reporter = SilentReporter()
    evaluate(config, run, reporter)
    assert reporter.warnings == []
    verdict = Verdict.read(run.shadow_verdict)
    expected = {"candidate": late if role == "candidate" else early, "incumbent": late if role == "incumbent" else None}
    found = verdict.training_ends.model_dump()
    assert {name: end and parse_time(end) for name, end in found.items()} == {
        name: end and parse_time(end) for name, end in expected.items()
    }
    if role == "candidate":
        assert any("the incumbent's training ended is unknown" in note for note in verdict.notes)
