"""The journal: whole rows or none, no duplicates, torn ends set aside, problems counted."""

import errno
import json
import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import candletune.journal.reader as reader_module
from candletune.errors import InputError
from candletune.journal import (
    DuplicateRow,
    Journal,
    Problems,
    Row,
    Side,
    format_time,
    parse_time,
    read_frame,
    read_rows,
)

START = datetime(2025, 1, 1, tzinfo=UTC)
ACTIVE = Side("ok", "BUY", "RSI 28.3 – oversold", {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3}, 12.5, None)
SHADOW = Side("error", adapter_sha256="ab", error="no such file")


def row(hour: int, ticker: str = "BTC", **changes: Any) -> Row:
    values: dict[str, Any] = {"active": ACTIVE, "shadow": SHADOW} | changes
    return Row(START + timedelta(hours=hour), ticker, 100.5, "p" * 64, "t" * 64, "b" * 64, **values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "live" / "ab_test_log.jsonl"


def test_a_row_is_one_line_of_the_documented_form(path: Path) -> None:
    Journal(path).append(row(1, late=True))
    assert path.read_bytes().endswith(b"\n")
    assert json.loads(path.read_text()) == {
        "schema": 1,
        "timestamp": "2025-01-01T01:00:00Z",
        "ticker": "BTC",
        "price": 100.5,
        "mode": "shadow",
        "late": True,
        "forced": False,
        "prompt_sha256": "p" * 64,
        "template_sha256": "t" * 64,
        "base_sha256": "b" * 64,
        "active": {
            "action": "BUY",
            "status": "ok",
            "reasoning": "RSI 28.3 – oversold",
            "probabilities": {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3},
            "latency_ms": 12.5,
            "adapter_sha256": None,
            "error": None,
        },
        "shadow": {
            "action": None,
            "status": "error",
            "reasoning": None,
            "probabilities": None,
            "latency_ms": None,
            "adapter_sha256": "ab",
            "error": "no such file",
        },
    }


def test_frame_has_the_documented_columns_and_types(path: Path) -> None:
    Journal(path).append_many([row(1), row(2, forced=True, mode="replay")])
    frame = read_frame(path)
    sides = ("action", "status", "reasoning", "p_buy", "p_sell", "p_hold", "latency_ms", "adapter", "error")
    assert frame.columns == [
        *("timestamp", "ticker", "price", "mode", "late", "forced", "prompt_sha256", "template_sha256", "base_sha256"),
        *(f"active_{name}" for name in sides),
        *(f"shadow_{name}" for name in sides),
    ]
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame["timestamp"].to_list() == [START + timedelta(hours=1), START + timedelta(hours=2)]
    assert frame["active_p_hold"].to_list() == [0.3, 0.3]
    assert frame["shadow_p_buy"].to_list() == [None, None]
    assert frame["forced"].to_list() == [False, True]


def test_empty_and_missing_journals(path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_frame(path)
    Journal(path)
    frame = read_frame(path)
    assert frame.is_empty()
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert list(read_rows(path)) == []


def test_times_are_utc_and_need_a_zone() -> None:
    plus_two = datetime(2025, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(plus_two) == "2025-01-01T00:00:00Z"
    assert parse_time("2025-01-01T02:00:00+02:00") == START
    with pytest.raises(ValueError, match="no time zone"):
        parse_time("2025-01-01T02:00:00")
    with pytest.raises(ValueError, match="time with a zone"):
        Row(datetime(2025, 1, 1), "BTC", 1.0, "", "", "", ACTIVE, SHADOW)  # noqa: DTZ001


@pytest.mark.parametrize("side", [("ok", None), ("invalid", "HOLD"), ("skipped", "BUY"), ("fine", None)])
def test_an_action_belongs_to_status_ok_alone(side: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="can't carry"):
        Side(*side)


def test_duplicates_are_refused_whoever_wrote_first(path: Path) -> None:
    first, second = Journal(path), Journal(path)
    first.append(row(1))
    before = path.read_bytes()
    for writer in (first, second, Journal(path)):
        with pytest.raises(DuplicateRow, match="BTC at 2025-01-01T01:00:00Z"):
            writer.append(row(1))
        with pytest.raises(DuplicateRow):
            writer.append_many([row(2), row(1)])
        with pytest.raises(DuplicateRow):
            writer.append_many([row(3), row(3)])
    assert path.read_bytes() == before
    second.append(row(1, "ETH"))
    assert first.has("ETH", START + timedelta(hours=1))
    assert not first.has("ETH", START)
    assert first.last("BTC") == START + timedelta(hours=1)
    assert first.last("SOL") is None


def test_not_finite_numbers_are_refused(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append(row(1, active=Side("ok", "BUY", latency_ms=float("nan"))))
    assert path.read_bytes() == b""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_torn_end_is_set_aside_and_nothing_else_is_lost(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("torn") / "log.jsonl"
    Journal(path).append_many([row(1), row(2)])
    whole = path.read_bytes()
    line = row(3).line()
    torn = line[: data.draw(st.integers(1, len(line) - 1))]
    path.write_bytes(whole + torn)

    problems = Problems()
    assert len(list(read_rows(path, problems=problems))) == 2
    assert (problems.torn, bool(problems)) == (1, True)
    assert len(read_frame(path)) == 2

    journal = Journal(path)
    assert path.read_bytes() == whole
    assert journal.problems.torn == 1
    kept = json.loads(journal.torn_path.read_text())
    assert kept["offset"] == len(whole)
    assert kept["bytes"] == torn.decode(errors="backslashreplace")
    journal.append(row(3))
    assert path.read_bytes() == whole + line
    assert Journal(path).problems.torn == 0


def test_a_writer_already_open_sets_another_writers_torn_end_aside(path: Path) -> None:
    journal = Journal(path)
    journal.append(row(1))
    with path.open("ab") as stream:
        stream.write(b'{"schema":1,"time')
    journal.append(row(2))
    assert journal.problems.torn == 1
    assert len(list(read_rows(path))) == 2


def broken_lines() -> dict[str, bytes]:
    good = json.loads(row(9).line())
    return {
        "not json": b"{\n",
        "zeros": b"\0\0\0\n",
        "empty": b"\n",
        "a list": b"[]\n",
        "no schema": b"{}\n",
        "no ticker": json.dumps(good | {"ticker": None}).encode() + b"\n",
        "no time": json.dumps(good | {"timestamp": 5}).encode() + b"\n",
        "naive time": json.dumps(good | {"timestamp": "2025-01-01T01:00:00"}).encode() + b"\n",
        "price": json.dumps(good | {"price": "100"}).encode() + b"\n",
        "price NaN": json.dumps(good | {"price": float("nan")}).encode() + b"\n",
        "no shadow": json.dumps(good | {"shadow": None}).encode() + b"\n",
        "a status": json.dumps(good | {"active": {"status": "fine"}}).encode() + b"\n",
        "action of an error": json.dumps(good | {"active": {"status": "error", "action": "BUY"}}).encode() + b"\n",
        "ok without action": json.dumps(good | {"active": {"status": "ok", "action": None}}).encode() + b"\n",
    }


@pytest.mark.parametrize("name", broken_lines())
def test_broken_lines_are_named_or_counted(path: Path, name: str) -> None:
    Journal(path).append(row(1))
    with path.open("ab") as stream:
        stream.write(broken_lines()[name] + row(2).line())
    for read in (lambda p: list(read_rows(p)), read_frame):
        with pytest.raises(InputError, match=r"ab_test_log.jsonl:2: not a journal row"):
            read(path)
    problems = Problems()
    assert [r["timestamp"] for r in read_rows(path, problems=problems)] == [
        "2025-01-01T01:00:00Z",
        "2025-01-01T02:00:00Z",
    ]
    assert problems.broken == 1
    assert len(read_frame(path, problems=problems)) == 2
    assert problems.broken == 2
    journal = Journal(path)
    assert journal.problems.broken == 1
    assert "jsonl:2:" in journal.problems.notes[0]
    with pytest.raises(DuplicateRow):
        journal.append(row(2))


def test_only_broken_lines_give_an_empty_frame(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"{\n" * 30)
    problems = Problems()
    assert read_frame(path, problems=problems).is_empty()
    assert problems.broken == 30
    assert len(problems.notes) == 20


def test_another_schema_is_refused_by_line(path: Path) -> None:
    Journal(path).append(row(1))
    path.write_bytes(path.read_bytes() + row(2).line().replace(b'"schema":1', b'"schema":2'))
    for read in (
        lambda p, problems: list(read_rows(p, problems=problems)),
        lambda p, problems: read_frame(p, problems=problems),
    ):
        with pytest.raises(InputError, match=r":2: schema 2, expected 1"):
            read(path, Problems())


def test_unknown_keys_of_a_later_writer_do_not_disturb(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(json.dumps(json.loads(row(1).line()) | {"extra": {"a": 1}}).encode() + b"\n")
    assert len(read_frame(path)) == 1
    assert Journal(path).has("BTC", START + timedelta(hours=1))


def test_readers_refuse_or_count_duplicates(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(row(1).line() + row(2).line() + row(1).line() + row(1).line())
    with pytest.raises(InputError, match="more than one row for BTC at 2025-01-01T01:00:00Z"):
        read_frame(path)
    problems = Problems()
    assert read_frame(path, problems=problems)["timestamp"].dt.hour().to_list() == [1, 2]
    assert problems.duplicates == 2


def test_blocks_smaller_than_a_line_and_lines_across_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(path).append_many([row(hour) for hour in range(30)])
    for size in (7, 701, 1500):
        monkeypatch.setattr(reader_module, "_BLOCK", size)
        assert [r["timestamp"][11:13] for r in read_rows(path)] == [f"{hour % 24:02d}" for hour in range(30)]
        assert read_frame(path)["timestamp"].to_list() == [START + timedelta(hours=hour) for hour in range(30)]
        assert Journal(path).last("BTC") == START + timedelta(hours=29)


def test_a_line_that_changed_under_the_reader_is_read_again(path: Path) -> None:
    Journal(path).append_many([row(1), row(2)])
    data = path.read_bytes()
    second = data.index(b"\n") + 1
    mixed = data[:second] + b'{"h"lf"' + data[second + 7 :]
    block = reader_module._Block(path, 0, 1, mixed)
    assert [r["timestamp"][11:13] for r in block.rows(None)] == ["01", "02"]


def test_a_failed_append_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.append(row(1))
    before = path.read_bytes()
    write = os.write

    def full_disk(handle: int, data: bytes) -> int:
        return write(handle, data[:40])

    def refused(handle: int, data: bytes) -> int:
        raise OSError(errno.EIO, "input/output error")

    for fault in (full_disk, refused):
        monkeypatch.setattr(os, "write", fault)
        with pytest.raises(InputError, match="cannot append"):
            journal.append(row(2))
        monkeypatch.setattr(os, "write", write)
        assert path.read_bytes() == before
    journal.append(row(2))
    assert len(list(read_rows(path))) == 2


def test_a_replaced_file_is_learned_anew(path: Path) -> None:
    journal = Journal(path)
    journal.append_many([row(1), row(2)])
    path.write_bytes(row(5).line())
    assert not journal.has("BTC", START + timedelta(hours=1))
    assert journal.has("BTC", START + timedelta(hours=5))
    journal.append(row(1))


def test_locks_are_freed_when_opening_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(journal._lock, "acquire", lambda **_: (_ for _ in ()).throw(OSError("no locks")))
        with pytest.raises(OSError, match="no locks"):
            journal.append(row(1))
    with monkeypatch.context() as patch:
        open_file = os.open
        patch.setattr(os, "open", lambda name, *rest: open_file("/no/such" if name == path else name, *rest))
        with pytest.raises(OSError, match="No such file"):
            journal.append(row(1))
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_catch_up", lambda _: (_ for _ in ()).throw(OSError("no look")))
        with pytest.raises(OSError, match="no look"):
            journal.append(row(1))
    journal.append(row(1))


def test_threads_share_a_journal(path: Path) -> None:
    shared = Journal(path)

    def work(name: str, journal: Journal) -> None:
        for hour in range(40):
            journal.append(row(hour, name))

    threads = [threading.Thread(target=work, args=(f"T{i}", shared if i % 2 else Journal(path))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_frame(path).group_by("ticker").len().rows()) == [(f"T{i}", 40) for i in range(4)]
