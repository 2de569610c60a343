"""Broken inputs, each with its own error line: file, row or key, what was expected, and what to do."""

import gzip
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.cli import main

START = datetime(2024, 1, 1, tzinfo=UTC)
NAME = "BTC_USDT_USDT-1h-futures"
BASE = ("data.pairs=['BTC/USDT:USDT']",)
Break = Callable[[Path], tuple[str, ...]]


def candles(rows: int = 400) -> pl.DataFrame:
    dates = pl.Series([START + timedelta(hours=hour) for hour in range(rows)], dtype=pl.Datetime("us", "UTC"))
    close = pl.Series([100.0 + 3 * math.sin(hour / 6) for hour in range(rows)])
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close}
    return pl.DataFrame({"date": dates, **prices, "volume": pl.repeat(5.0, rows, eager=True)})


def text(name: str, body: str | bytes, *settings: str) -> Break:
    """A file of this text (none when the body is empty) beside good candles, and the settings that name it."""

    def apply(folder: Path) -> tuple[str, ...]:
        if name != f"{NAME}.feather":
            candles().write_ipc(folder / f"{NAME}.feather")
        (folder / name).write_bytes(body.encode() if isinstance(body, str) else body)
        return tuple(setting.format(folder=folder) for setting in settings)

    return apply


def only(name: str, body: bytes) -> Break:
    """Candles in this one file."""

    def apply(folder: Path) -> tuple[str, ...]:
        (folder / name).write_bytes(body)
        return ()

    return apply


def edited(*columns: pl.Expr, drop: str | None = None, keep: pl.Expr | None = None) -> Break:
    """Good candles with columns replaced, one dropped, or rows filtered."""

    def apply(folder: Path) -> tuple[str, ...]:
        frame = candles().with_row_index("i").with_columns(*columns)
        frame = frame if keep is None else frame.filter(keep)
        frame.drop("i", *([drop] if drop else [])).write_ipc(folder / f"{NAME}.feather")
        return ()

    return apply


def at(row: int, column: str, value: float | None) -> pl.Expr:
    return pl.when(pl.col("i") == row).then(pl.lit(value, dtype=pl.Float64)).otherwise(pl.col(column)).alias(column)


def settings(*values: str) -> Break:
    def apply(folder: Path) -> tuple[str, ...]:
        candles().write_ipc(folder / f"{NAME}.feather")
        return tuple(value.format(folder=folder) for value in values)

    return apply


def truncated(folder: Path) -> tuple[str, ...]:
    candles().write_ipc(folder / "whole")
    (folder / f"{NAME}.feather").write_bytes((folder / "whole").read_bytes()[:4000])
    return ()


def conflicting(folder: Path) -> tuple[str, ...]:
    frame = candles()
    pl.concat([frame, frame.slice(7, 1).with_columns(close=pl.col("close") + 0.5)]).write_ipc(
        folder / f"{NAME}.feather"
    )
    return ()


def two_of_a_ticker(folder: Path) -> tuple[str, ...]:
    for name in (NAME, "BTC_USDC_USDC-1h-futures"):
        candles().write_ipc(folder / f"{name}.feather")
    return ("data.pairs=['BTC/USDT:USDT', 'BTC/USDC:USDC']",)


FEAR, NEWS, PROMPT = (
    "data.fear_greed='{folder}/f.csv'",
    "data.headlines='{folder}/n.csv'",
    "prompt.template='{folder}/t.j2'",
)
NEWS_HEAD = "published_at,subject,sentiment,polarity,source,title\n"
CASES: dict[str, tuple[Break, str, int]] = {
    "no folder": (lambda _: ("data.folder=nowhere",), "nowhere: no such folder; set data.folder", 3),
    "no file": (lambda _: (), "no candles of BTC/USDT:USDT 1h (looked for BTC_USDT_USDT-1h-futures.feather", 3),
    "empty feather": (only(f"{NAME}.feather", b""), "not a readable feather candle file", 3),
    "truncated feather": (truncated, "not a readable feather candle file (empty, cut off or of another format)", 3),
    "not parquet": (only(f"{NAME}.parquet", b"PAR1 not really"), "not a readable parquet candle file", 3),
    "json object": (only(f"{NAME}.json", b'{"a": 1}'), "expected freqtrade's list of [milliseconds", 3),
    "json cut off": (only(f"{NAME}.json", b"[[1704067200000, 1, 2"), "not a readable json candle file", 3),
    "short json rows": (only(f"{NAME}.json", b"[[1704067200000, 1, 2]]"), "not a readable json candle file", 3),
    "broken gz": (only(f"{NAME}.json.gz", gzip.compress(b"[" * 5000)[:30]), "not a readable gz candle file", 3),
    "no column": (edited(drop="volume"), "no column volume; expected date, open", 3),
    "no rows": (edited(keep=pl.col("i") < 0), "no rows; download the candles again", 3),
    "naive times": (edited(pl.col("date").dt.replace_time_zone(None)), "expected times with a time zone (UTC)", 3),
    "times in words": (edited(pl.lit("yesterday").alias("date")), "column date is String, expected times", 3),
    "times in seconds": (edited(pl.col("date").dt.epoch("s")), "date 1704067200 is not a time in milliseconds", 3),
    "times of another age": (
        edited(pl.lit(-(10**17)).cast(pl.Datetime("us", "UTC")).alias("date")), "row 0 has a time before 2001", 3
    ),
    "a missing time": (
        edited(pl.when(pl.col("i") != 9).then(pl.col("date")).alias("date")), "a missing time at None (1 such", 3
    ),
    "conflicting duplicate": (conflicting, "two different candles for one time at 2024-01-01 07:00", 3),
    "a missing price": (edited(at(5, "close", None)), "a missing price at 2024-01-01 05:00", 3),
    "NaN": (edited(at(6, "open", float("nan"))), "a missing price at 2024-01-01 06:00", 3),
    "infinite": (edited(at(7, "high", float("inf"))), "a missing price at 2024-01-01 07:00", 3),
    "a price of zero": (edited(at(5, "low", 0.0)), "a price that is not positive at 2024-01-01 05:00", 3),
    "high below low": (edited(at(8, "high", 50.0)), "high or low inside open and close at 2024-01-01 08:00", 3),
    "low above close": (edited(at(9, "low", 500.0)), "high or low inside open and close at 2024-01-01 09:00", 3),
    "negative volume": (edited(at(5, "volume", -1.0)), "a missing or negative volume at 2024-01-01 05:00", 3),
    "price in words": (edited(pl.lit("dear").alias("close")), "a value is not a number", 3),
    "wrong timeframe": (edited(keep=pl.col("i") % 4 == 0), "candles are 240 minutes apart, expected 1h", 3),
    "off the grid": (
        edited(pl.col("date") + pl.when(pl.col("i") > 300).then(pl.duration(minutes=1)).otherwise(pl.duration())),
        "a time off the 1h grid at 2024-01-13 13:01", 3,
    ),
    "too few candles": (edited(keep=pl.col("i") < 100), "third is kept out for the replay; give longer histories", 3),
    "one class only": (settings("labels.threshold=0.9"), "no BUY, SELL in the train split", 3),
    "test before the data": (
        settings("dataset.test_start=2020-01-01"), "2020-01-01 leaves no training examples, since the candles in", 3
    ),
    "test inside the warm-up": (settings("dataset.test_start=2024-01-08T07:00:00Z"), "first 150 are warm-up; set a", 3),
    "test behind the data": (settings("dataset.test_start=2030-01-01"), "2030-01-01 leaves nothing to replay", 3),
    "test at the last close": (settings("dataset.test_start=2024-01-17T16:00:00Z"), "end at 2024-01-17 16:00; set", 3),
    "training from the test on": (settings("dataset.train_start=2024-01-12"), "purge begins; set an earlier time", 3),
    "pairs of one ticker": (two_of_a_ticker, "data.pairs: BTC appears in two pairs; keep one", 3),
    "candles of 5 hours": (settings("data.timeframe=5h"), "data.context_timeframes: 4h is not a longer multiple", 2),
    "candles that do not divide a day": (
        settings("data.timeframe=7h", "data.context_timeframes=[]"), "no candles of BTC/USDT:USDT 7h", 3
    ),
    "unknown key": (settings("data.foldr=x"), "data.foldr: unknown key (did you mean folder?)", 2),
    "no fear & greed file": (settings(FEAR), "f.csv: missing (data.fear_greed)", 3),
    "fear & greed columns": (text("f.csv", "day,score\n2024-01-01,3\n", FEAR), "not a Fear & Greed history", 3),
    "fear & greed range": (text("f.csv", "date,value\n2024-01-01,101\n", FEAR), "value 101.0 at 2024-01-01", 3),
    "fear & greed conflict": (
        text("f.csv", "date,value\n2024-01-01,10\n2024-01-01,11\n", FEAR), "two different values for 2024-01-01", 3
    ),
    "fear & greed empty": (text("f.csv", "date,value\n", FEAR), "f.csv: no rows; run `candletune fetch", 3),
    "fear & greed words": (text("f.csv", "date,value\n2024-01-01,low\n", FEAR), "f.csv: not a Fear & Greed", 3),
    "fear & greed page": (
        text("f.json", "<html>busy</html>", "data.fear_greed='{folder}/f.json'"), "f.json: not a Fear & Greed", 3
    ),
    "fear & greed answer": (
        text("f.json", json.dumps({"error": 1}), "data.fear_greed='{folder}/f.json'"), "f.json: not a Fear & Greed", 3
    ),
    "fear & greed times": (
        text(
            "f.json",
            json.dumps({"data": [{"timestamp": "1704067200000", "value": "3"}]}),
            "data.fear_greed='{folder}/f.json'",
        ),
        "f.json: not a Fear & Greed history (a timestamp that is not in seconds since 1970)", 3,
    ),
    "headlines at no time": (
        text("n.csv", NEWS_HEAD + "yesterday,b,x,0.1,s,T\n", NEWS), "n.csv: line 2 published_at is 'yesterday'", 3
    ),
    "headlines without title": (text("n.csv", "published_at,polarity\n", NEWS), "file (no column title", 3),
    "headline without time": (text("n.csv", NEWS_HEAD + ",b,x,0.1,s,T\n", NEWS), "line 2 has no published_at", 3),
    "polarity out of range": (
        text("n.csv", NEWS_HEAD + "2024-01-01T00:00:00+00:00,b,x,7,s,T\n", NEWS), "line 2 polarity is '7', expected", 3
    ),
    "template syntax": (text("t.j2", "{{ ticker", PROMPT), "t.j2: line 1: not a valid Jinja2 template", 3),
    "template field": (
        text("t.j2", "{{ ticker }}{{ rsi }}{{ price_usd }}{{ moon }}", PROMPT), "t.j2: unknown field moon", 3
    ),
    "template too short": (text("t.j2", "{{ ticker }} {{ rsi }}", PROMPT), "never shows price_usd; add them", 3),
    "template token": (
        text("t.j2", "[INST]{{ ticker }}{{ rsi }}{{ price_usd }}", PROMPT), "carries the control token [INST]", 3
    ),
    "template bytes": (text("t.j2", b"\xff\xfe\x00", PROMPT), "t.j2: template cannot be read", 3),
    "template missing": (settings(PROMPT), "t.j2: missing (prompt.template)", 3),
}  # fmt: skip


def run(folder: Path, capsys: pytest.CaptureFixture[str], *values: str) -> tuple[int, str]:
    config = folder / "c.toml"
    config.write_text(f'data.folder = "{folder}"\nrun.folder = "{folder / "run"}"\n')
    assignments = [part for value in (*BASE, *values) for part in ("--set", value)]
    with pytest.raises(SystemExit) as left:
        main(["dataset", "--config", str(config), *assignments])
    return int(left.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_a_broken_input_has_its_own_error_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply, expected, code = CASES[name]
    left, shown = run(tmp_path, capsys, *apply(tmp_path))
    errors = [line for line in shown.splitlines() if line.startswith("error:")]
    assert left == code, shown
    assert len(errors) == 1, shown
    assert expected in errors[0]
    assert ";" in errors[0] or code == 2 or "expected" in errors[0], "no remedy"
    assert not (tmp_path / "run" / "dataset").exists()


def test_there_are_at_least_thirty_and_the_good_one_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(CASES) >= 30
    candles().write_ipc(tmp_path / f"{NAME}.feather")
    assert run(tmp_path, capsys, "dataset.per_class=5")[0] == 0
