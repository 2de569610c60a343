"""The plan's own A/B log, and csv, become a journal that `evaluate --journal` judges; no line goes unsaid."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from candletune.artifacts import JournalImport, Metrics, Verdict
from candletune.cli import program
from candletune.console import SilentReporter
from candletune.errors import InputError, UsageError
from candletune.journal import Side, read_frame
from candletune.journal.importing import IMPORTED, ImportSettings, import_log, parse_side, parse_stamp
from candletune.stages.evaluate import STAGE
from candletune.stages.runner import run_stage
from simulated_run import journal_rows, make_run


def settings(**changes: Any) -> ImportSettings:
    values: dict[str, Any] = {
        "tickers": ("BTC", "ETH"),
        "timeframe": "1h",
        "columns": {},
        "zone": "",
        "now": datetime(2030, 1, 1, tzinfo=UTC),
    }
    return ImportSettings(**(values | changes))


def line(time: Any = "2025-03-01T14:00:00Z", ticker: str = "BTC", **values: Any) -> str:
    row = {"timestamp": time, "ticker": ticker, "price": 97_000.5, "active": "BUY", "shadow": "HOLD"} | values
    return json.dumps(row) + "\n"


def imported(tmp_path: Path, text: str, name: str = "log.jsonl", **changes: Any) -> JournalImport:
    source = tmp_path / name
    source.write_text(text, encoding="utf-8", newline="")
    return import_log(source, tmp_path / "ab.jsonl", settings(**changes))


def test_the_plans_log_is_judged(tmp_path: Path) -> None:
    """Both predictions, timestamp, ticker and price, as the plan logs them: the same numbers as of our own journal."""
    config, run = make_run(tmp_path / "made", "evaluate.baselines=false", rows=300)
    text = "".join(
        line(
            (row.timestamp + timedelta(minutes=7)).isoformat(),
            row.ticker,
            price=row.price,
            active=row.active.action,
            shadow=f"DECISION: {row.shadow.action} - because",
        )
        for row in journal_rows(config, 300)
    )
    summary = imported(tmp_path, text)
    assert (summary.rows, summary.moved, summary.most_moved_seconds, summary.bad) == (300, 300, 420.0, ())
    judging = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"journal": tmp_path / "ab.jsonl"})}
    )
    with run.lock():
        run_stage(STAGE, judging, run, SilentReporter())
    replayed, judged = Metrics.read(run.metrics), Metrics.read(run.shadow_metrics)
    # Nobody knows which files answered, so it is another try on the same candles: its bound is wider, nothing else.
    bounds = ("sequential", "beyond_chance", "direction", "log_score", "days_needed", "alpha")
    bound = {name: getattr(replayed.comparison, name) for name in bounds}
    assert judged.comparison.model_copy(update=bound) == replayed.comparison
    spent = Verdict.read(run.shadow_verdict).spent
    assert spent is not None
    assert spent.number == 2
    assert judged.shadow.confusion == replayed.shadow.confusion
    # Nobody knows which files answered, so the verdict is about none here, not even about the bare base.
    verdict = Verdict.read(run.shadow_verdict)
    assert verdict.candidate.adapter_sha256 == verdict.incumbent.adapter_sha256 == IMPORTED


def test_csv_with_named_columns(tmp_path: Path) -> None:
    text = (
        "when;coin;close;mine;theirs;theirs_why\r\n"
        '2025-03-01 14:05;btc-usd;97000;SELL;BUY;"two\nlines"\r\n'
        "2025-03-01 15:00;ETHUSDT;2500;;hold;\r\n"
        "2025-03-01 16:00;ETHUSDT;2500\r\n"
    )
    named = {
        "timestamp": "when",
        "ticker": "coin",
        "active": "mine",
        "shadow": "theirs",
        "shadow_reasoning": "theirs_why",
    }
    summary = imported(tmp_path, text, "log.csv", columns=named, zone="Europe/Stockholm")
    frame = read_frame(tmp_path / "ab.jsonl")
    assert frame["timestamp"].to_list() == [datetime(2025, 3, 1, hour, tzinfo=UTC) for hour in (13, 14)]
    assert frame["ticker"].to_list() == ["BTC", "ETH"]
    assert frame["active_status"].to_list() == ["ok", "skipped"]
    assert frame["shadow_action"].to_list() == ["BUY", "HOLD"]
    assert frame["shadow_reasoning"].to_list() == ["two\nlines", None]
    assert [(bad.line, bad.problem) for bad in summary.bad] == [(5, "3 cells, expected 6 as in the first line")]
    assert summary.columns["price"] == "close"
    assert summary.statuses == {"active": {"ok": 1, "skipped": 1}, "shadow": {"ok": 2}}


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    broken = {
        "{ half\n": "not valid JSON",
        "[1]\n": "expected an object",
        line("yesterday"): "no time like",
        line("2025-03-01T14:00:00"): "--timezone",
        line("2031-01-01T00:00:00Z"): "future",
        line(17): "neither seconds nor milliseconds",
        line(None): "timestamp is missing",
        line(price="much"): "'much'",
        line(price=None): "None",
        line(ticker=" "): "ticker is missing",
        line(active={"confidence": 0.7}): "without a decision",
        line(shadow={"action": "BUY", "probabilities": {"BUY": 0.5}}): "expected BUY, SELL and HOLD",
        line("9999-12-31T23:59:59-12:00"): "out of range",
        line("0001-01-01T00:00:00+12:00"): "out of range",
        line(active={"action": "BUY", "reasoning": "\ud800"}): "surrogates not allowed",
        "[" * 100_000 + "\n": "not valid JSON",
        line({"at": 1}): "no time like",
        line(price=float("nan")): "nan",
    }
    summary = imported(tmp_path, "".join([line("2025-03-01T12:00:00Z"), "\n", *broken, line()]))
    assert (summary.lines, summary.rows) == (len(broken) + 2, 2)
    assert [bad.line for bad in summary.bad] == list(range(3, 3 + len(broken)))
    for word, bad in zip(broken.values(), summary.bad, strict=True):
        assert word in bad.problem
    assert JournalImport.read(tmp_path / "ab.jsonl.import.json") == summary


def test_one_row_a_candle_and_known_tickers_only(tmp_path: Path) -> None:
    text = line("2025-03-01T14:50:00Z", active="SELL") + line("2025-03-01T14:10:00Z") + line(ticker="XAG")
    summary = imported(tmp_path, text)
    assert (summary.rows, summary.same_candle, summary.other_tickers) == (1, 1, {"XAG": 1})
    # the first of the candle, whatever the order in the file
    assert read_frame(tmp_path / "ab.jsonl")["active_action"].to_list() == ["BUY"]


@pytest.mark.parametrize(
    ("value", "status", "action", "reasoning"),
    [
        ("buy", "ok", "BUY", None),
        (" SELL ", "ok", "SELL", None),
        ("DECISION: HOLD - flat", "ok", "HOLD", "flat"),
        ({"action": "SELL", "reasoning": "RSI 71"}, "ok", "SELL", "RSI 71"),
        ('{"decision": "BUY", "reason": "up"}', "ok", "BUY", "up"),
        ({"text": "DECISION: BUY - low RSI"}, "ok", "BUY", "low RSI"),
        ({"status": "error", "error": "busy"}, "error", None, None),
        ("HOLD, not a BUY", "invalid", None, None),
        ("strong buy", "invalid", None, None),
        ("{ half", "invalid", None, None),
        ({"action": 1}, "invalid", None, None),
        ("", "skipped", None, None),
        (None, "skipped", None, None),
    ],
)
def test_answers_in_every_form(value: Any, status: str, action: str | None, reasoning: str | None) -> None:
    side = parse_side(value)
    assert (side.status, side.action, side.reasoning) == (status, action, reasoning)
    assert side.adapter_sha256 == IMPORTED


def test_probabilities_are_kept() -> None:
    shares = {"buy": 0.5, "sell": 0.25, "hold": 0.25}
    assert parse_side({"action": "BUY", "probabilities": shares}) == Side(
        "ok", "BUY", None, {"BUY": 0.5, "SELL": 0.25, "HOLD": 0.25}, adapter_sha256=IMPORTED
    )


@pytest.mark.parametrize("value", ["2025-03-01T14:00:00Z", "2025-03-01T15:00:00+01:00", 1740837600, "1740837600000"])
def test_stamps_in_every_form(value: Any) -> None:
    assert parse_stamp(value, None) == datetime(2025, 3, 1, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("", {}, "no column for timestamp"),
        ('{"timestamp": 1, "coin": "BTC"}\n', {}, r"no column for price; name it with --map price=COLUMN"),
        (line(), {"columns": {"price": "pirce"}}, r"no column pirce; did you mean price\?"),
        (line(), {"columns": {"cost": "price"}}, "--map cost=...: no such field"),
        (line(), {"zone": "Mars"}, "--timezone Mars: no such time zone"),
    ],
)
def test_bad_usage_is_one_line(text: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        imported(tmp_path, text, **changes)
    assert not list(tmp_path.glob("ab.jsonl*"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (line("soon") * 3, r"none of 3 lines is a row; line 1: timestamp 'soon'"),
        (line(ticker="DOGE"), r"data.pairs has no pair for \(DOGE\)"),
        ("[1,", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("time,price\n" + "x" * 200_000, "not readable as csv"),
    ],
)
def test_nothing_to_import_writes_nothing(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        imported(tmp_path, text, "log.jsonl" if text.startswith("{") else "log")
    assert not list(tmp_path.glob("ab.jsonl*"))


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    imported(tmp_path, line())
    before = (tmp_path / "ab.jsonl").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        imported(tmp_path, line(active="SELL"))
    assert (tmp_path / "ab.jsonl").read_bytes() == before


def test_the_command_says_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\ufeff" + line("2025-03-01T14:10:00Z", signals={"a": "BUY"}) + "{ half\n" + line(ticker="XAG")
    Path("log.jsonl").write_text(text, encoding="utf-8")
    arguments = ["journal", "import", "log.jsonl", "--output", "ab.jsonl", "--map", "active=signals.a"]
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "log.jsonl:2: left out: not valid JSON" in shown
    assert "left out: XAG 1" in shown
    assert "1 stamps were not a 1h candle's close" in shown
    assert "ab.jsonl: 1 rows of 3 lines, 1 bad (active: 1 ok; shadow: 1 ok)" in shown
    assert read_frame(Path("ab.jsonl"))["active_action"].to_list() == ["BUY"]
