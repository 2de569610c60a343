"""The journal: whole rows or none, no duplicates, torn ends set aside, problems counted."""

import errno
import json
import os
import threading
import zlib
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
from candletune.journal.rows import parse_line, sealed, shortened

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
    line = path.read_bytes().rstrip(b"\n")
    body = line[: line.index(b',"crc32"')]
    assert json.loads(line) == {
        "crc32": f"{zlib.crc32(body):08x}",
        "schema": 2,
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


def old(line: Row, **changes: Any) -> bytes:
    """A row as candletune wrote it before there were checksums."""
    value = json.loads(line.line()) | {"schema": 1} | changes
    del value["crc32"]
    return json.dumps(value).encode() + b"\n"


def broken_lines() -> dict[str, bytes]:
    good = json.loads(old(row(9)))
    side = good["active"]
    return {
        "not json": b"{\n",
        "zeros": b"\0\0\0\n",
        "empty": b"\n",
        "a list": b"[]\n",
        "no schema": b"{}\n",
        "60,000 brackets": b"[" * 60_000 + b"\n",
        "a price of 400 digits": json.dumps(good | {"price": 10**400}).encode() + b"\n",
        "a number of 5,000 digits": old(row(9)).replace(b"100.5", b"1" + b"0" * 5_000),
        "a year before all others": old(row(9), timestamp="0001-01-01T00:00:00+14:00"),
        "half a character": old(row(9), ticker="\ud800"),
        "half a character in a reason": old(row(9), active=side | {"reasoning": "\ud800"}),
        "no UTF-8": old(row(9)).replace(b"BTC", b"B\xffC"),
        "a latency in words": old(row(9), active=side | {"latency_ms": "slow"}),
        "chances that are a list": old(row(9), active=side | {"probabilities": [1]}),
        "late in words": old(row(9), late="yes"),
        "the schema's checksum is missing": old(row(9), schema=2),
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
    later = json.loads(row(2).line()) | {"schema": 3}
    del later["crc32"]
    path.write_bytes(path.read_bytes() + sealed(json.dumps(later).encode()) + b"\n")
    for read in (
        lambda p, problems: list(read_rows(p, problems=problems)),
        lambda p, problems: read_frame(p, problems=problems),
    ):
        with pytest.raises(InputError, match=r":2: schema 3, expected at most 2"):
            read(path, Problems())


def test_unknown_keys_of_a_later_writer_do_not_disturb(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(old(row(1), extra={"a": 1}))
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
        if len(data) < 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[:300])

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


def test_a_flipped_bit_anywhere_is_found(path: Path) -> None:
    """Also inside a number, where the JSON stays good."""
    Journal(path).append_many([row(1), row(2), row(3)])
    good = path.read_bytes()
    lines = good.split(b"\n")
    first, length = len(lines[0]) + 1, len(lines[1])
    want = ["2025-01-01T01:00:00Z", "2025-01-01T03:00:00Z"]
    for place in range(first, first + length):
        for bit in (0, 3, 7) if place % 5 else range(8):
            data = bytearray(good)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            problems = Problems()
            assert [r["timestamp"] for r in read_rows(path, problems=problems)] == want, (place, bit)
            assert problems.broken == (2 if data[place] == ord("\n") else 1)
    frame = read_frame(path, problems=problems)
    assert frame["timestamp"].dt.hour().to_list() == [1, 3]
    path.write_bytes(good.replace(b'"price":100.5', b'"price":100.4', 1))
    with pytest.raises(InputError, match=r":1: not a journal row \(its checksum says.*`candletune journal repair`"):
        read_frame(path)
    assert len(read_frame(path, problems=Problems())) == 2
    assert Journal(path).problems.broken == 1


def test_rows_from_before_there_were_checksums_are_read_and_counted(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(old(row(1)) + old(row(2)))
    Journal(path).append(row(3))
    by_line, by_frame = Problems(), Problems()
    assert len(list(read_rows(path, problems=by_line))) == len(read_frame(path, problems=by_frame)) == 3
    assert by_line == by_frame == Problems(unchecked=2)
    assert not by_line
    with pytest.raises(DuplicateRow):
        Journal(path).append(row(1))
    assert len(read_frame(path)) == 3


def test_lines_that_an_editor_of_windows_saved(path: Path) -> None:
    Journal(path).append_many([row(1), row(2)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_frame(path)) == len(list(read_rows(path))) == 2


def test_a_file_that_was_cut_and_has_grown_again_is_learned_anew(path: Path) -> None:
    """Before, its size alone was looked at, and a row that another writer had added was taken twice."""
    journal = Journal(path)
    journal.append_many([row(1), row(2), row(3)])
    path.write_bytes(row(1).line() + row(7).line() + row(8).line())
    with pytest.raises(DuplicateRow):
        journal.append(row(7))
    journal.append(row(2))
    assert sorted(r["timestamp"][11:13] for r in read_rows(path)) == ["01", "02", "07", "08"]


def test_a_torn_end_stays_while_its_side_file_does_not_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(path).append(row(1))
    torn = row(2).line()[:100]
    with path.open("ab") as stream:
        stream.write(torn)
    before, write = path.read_bytes(), os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[:30])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match=r"cannot be opened \(No space left on device\); check its folder"):
        Journal(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    journal = Journal(path)
    assert json.loads(journal.torn_path.read_bytes().split(b"\n")[-2])["bytes"].encode() == torn
    journal.append(row(2))
    assert len(read_frame(path)) == 2


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(InputError, match=r"log\.jsonl: the journal cannot be opened \(Permission denied\)"):
        Journal(tmp_path / "log.jsonl")


def test_locks_are_freed_when_opening_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(journal._lock, "acquire", lambda **_: (_ for _ in ()).throw(OSError("no locks")))
        with pytest.raises(InputError, match="no locks"):
            journal.append(row(1))
    with monkeypatch.context() as patch:
        open_file = os.open
        patch.setattr(os, "open", lambda name, *rest: open_file("/no/such" if name == path else name, *rest))
        with pytest.raises(InputError, match="No such file"):
            journal.append(row(1))
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_catch_up", lambda _: (_ for _ in ()).throw(OSError("no look")))
        with pytest.raises(InputError, match="no look"):
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


def test_values_of_any_size_are_named_shortly() -> None:
    assert (shortened([1]), shortened(10**5000), shortened("x")) == ("(list)", "(a huge number)", "'x'")


def test_a_text_beyond_ascii_is_read_and_half_a_character_is_not(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Journal(path).append(row(0))
    value = json.loads(path.read_bytes())
    del value["crc32"]
    value["shadow"]["reasoning"] = "Grün"
    whole = sealed(json.dumps(value, ensure_ascii=False).encode())
    assert parse_line(whole)[0]["shadow"]["reasoning"] == "Grün"
    value["shadow"]["reasoning"] = "\ud800"
    with pytest.raises(ValueError):
        parse_line(sealed(json.dumps(value).encode()))
    value["shadow"]["reasoning"] = 5
    with pytest.raises(ValueError, match="reasoning 5 is not a text"):
        parse_line(sealed(json.dumps(value).encode()))


def test_a_number_that_no_frame_holds_is_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Journal(path).append(row(0))
    value = json.loads(path.read_bytes())
    del value["crc32"]
    value["price"] = 10**400
    path.write_bytes(path.read_bytes() + sealed(json.dumps(value).encode()) + b"\n")
    problems = Problems()
    assert len(read_frame(path, problems=problems)) == 1
    assert problems.broken == 1


def test_what_cannot_be_taken_back_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.append(row(0))

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("candletune.journal.writer.append", refuse)
    monkeypatch.setattr("candletune.journal.writer.truncate", refuse)
    with pytest.raises(InputError, match="could not be taken back"):
        journal.append(row(1))
