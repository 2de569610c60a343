"""Every system call of 200 appends, failed once in every way: nothing acknowledged is lost, nothing is there twice.

The faults are set off below `candletune.files`, in a disk in memory: an error, a short read or write, a full disk, and
a power cut between any two calls, with every outcome that the file system may leave.
"""

import os
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty_disk import File, MemoryDisk, PowerCut, in_use

from candletune.errors import InputError
from candletune.journal import DuplicateRow, Journal, Row, Side
from candletune.journal.rows import parse_line

PATH = Path("/data/live/log.jsonl")
APPENDS = int(os.environ.get("CANDLETUNE_APPENDS", "200"))
"""Fewer for a quick look."""
SIDE = Side("ok", "BUY", latency_ms=1.0)


def row(number: int) -> Row:
    return Row(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=number), "BTC", 1.0, "p", "t", "b", SIDE, SIDE)


LINES = [row(number).line() for number in range(APPENDS + 1)]


def content(disk: MemoryDisk) -> bytes:
    file = disk.tree[PATH.as_posix()]
    assert isinstance(file, File)
    return file.data


def whole_lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def append_again(journal: Journal, number: int) -> None:
    """What a caller does that got an error: the row is there afterwards, by this attempt or the one before."""
    try:
        journal.append(row(number))
    except DuplicateRow:
        pass


@dataclass
class Moment:
    """A disk and the journal over it, which can be brought back to where they were."""

    disk: MemoryDisk
    journal: Journal
    data: bytes = b""
    knowledge: dict[str, Any] = field(default_factory=dict)

    def remember(self) -> None:
        self.data = content(self.disk)
        self.knowledge = {
            name: deepcopy(getattr(self.journal, name)) for name in ("_seen", "_offset", "_lines", "_tail")
        }

    def restore(self) -> None:
        file = self.disk.tree[PATH.as_posix()]
        assert isinstance(file, File)
        file.data = file.durable = self.data
        self.disk.arm(None)
        self.disk.handles.clear()
        self.disk.opened.clear()
        self.disk.dark = False
        for name, value in self.knowledge.items():
            setattr(self.journal, name, deepcopy(value))

    def calls(self, number: int) -> list[str]:
        """What an append calls."""
        self.restore()
        self.journal.append(row(number))
        return list(self.disk.calls)


def check_refused_or_done(disk: MemoryDisk, journal: Journal, number: int, call: int, how: str) -> str:
    """One fault in an append, by the very journal that goes on afterwards."""
    disk.arm(call, how)
    try:
        journal.append(row(number))
        outcome = "acknowledged"
        assert content(disk) == b"".join(LINES[: number + 1]), (number, call, how)
    except InputError as error:
        outcome = "refused"
        assert "\n" not in str(error)
        assert "log.jsonl" in str(error)
        assert content(disk) == b"".join(LINES[:number]), (number, call, how)
    assert not disk.handles, "a handle was left open"
    disk.arm(None)
    append_again(journal, number)
    assert content(disk) == b"".join(LINES[: number + 1]), (number, call, how)
    return outcome


def check_cut(disk: MemoryDisk, journal: Journal, number: int, call: int, checked: set[bytes]) -> int:
    """The power goes before a call of an append; whatever is found then, the journal goes on with it."""
    disk.arm(call, "cut")
    with pytest.raises(PowerCut):
        journal.append(row(number))
    found = 0
    for left in disk.outcomes():
        found += 1
        if content(left) in checked:
            continue
        checked.add(content(left))
        with in_use(left):
            later = Journal(PATH)
            assert later.problems.broken == 0
            assert whole_lines(content(left))[:number] == LINES[:number], (number, call, found)
            append_again(later, number)
            assert content(left) == b"".join(LINES[: number + 1]), (number, call, found)
    return found


def fresh() -> MemoryDisk:
    return MemoryDisk({"/": None}, {"/": None})


def test_every_call_of_every_append_failed_in_every_way() -> None:
    disk = fresh()
    outcomes: Counter[str] = Counter()
    with in_use(disk):
        moment = Moment(disk, Journal(PATH))
        for number in range(APPENDS):
            moment.remember()
            calls = moment.calls(number)
            checked: set[bytes] = set()
            assert {"lock", "open", "facts", "write", "sync", "close", "unlock"} <= set(calls)
            for call, name in enumerate(calls):
                for how in ("error", "short", "full") if name in ("write", "read") else ("error",):
                    moment.restore()
                    outcome = check_refused_or_done(disk, moment.journal, number, call, how)
                    outcomes[f"{name} {how}: {outcome}"] += 1
                moment.restore()
                outcomes["power cuts"] += check_cut(disk, moment.journal, number, call, checked)
            moment.restore()
            moment.journal.append(row(number))
    assert content(disk) == b"".join(LINES[:APPENDS])
    for line in whole_lines(content(disk)):
        parse_line(line.rstrip(b"\n"))
    for refused in ("write error", "write full", "sync error", "open error", "lock error"):
        assert outcomes[f"{refused}: refused"] == APPENDS, outcomes
    for done in ("write short", "close error", "unlock error"):
        assert outcomes[f"{done}: acknowledged"] == APPENDS, outcomes


def test_every_call_of_the_first_opening_failed_in_every_way() -> None:
    """The folders and the file are new: their names must be on disk before a row is acknowledged."""
    disk = fresh()
    with in_use(disk):
        disk.arm(None)
        Journal(PATH).append(row(0))
    calls = list(disk.calls)
    assert calls.count("make_folder") == 2
    for call in range(len(calls)):
        for how in ("error", "short", "cut"):
            disk = fresh()
            acknowledged = False
            with in_use(disk):
                disk.arm(call, how)
                try:
                    Journal(PATH).append(row(0))
                    acknowledged = True
                except (InputError, PowerCut):
                    pass
                disk.dark = False
            for left in disk.outcomes():
                with in_use(left):
                    later = Journal(PATH)
                    assert not acknowledged or content(left) == LINES[0], (calls[call], how)
                    append_again(later, 0)
                    assert content(left) == LINES[0], (calls[call], how)


def test_every_call_of_setting_a_torn_end_aside_failed_in_every_way() -> None:
    """The half row is in the journal or in the side file, whole, whatever happens."""
    torn = LINES[1][:50]

    def prepared() -> MemoryDisk:
        disk = fresh()
        with in_use(disk):
            Journal(PATH).append(row(0))
        file = disk.tree[PATH.as_posix()]
        assert isinstance(file, File)
        file.data = file.durable = LINES[0] + torn
        disk.arm(None)
        return disk

    def kept(disk: MemoryDisk) -> bool:
        side = disk.tree.get(PATH.as_posix() + ".torn")
        note = torn.decode().replace('"', '\\"') + '"}\n'
        aside = isinstance(side, File) and any(line.decode().endswith(note) for line in whole_lines(side.data))
        return content(disk) == LINES[0] + torn or (aside and content(disk) == LINES[0])

    disk = prepared()
    with in_use(disk):
        Journal(PATH)
    count = len(disk.calls)
    assert kept(disk)
    assert count > 10
    for call in range(count):
        for how in ("error", "short", "full", "cut"):
            disk = prepared()
            with in_use(disk):
                disk.arm(call, how)
                try:
                    Journal(PATH)
                except (InputError, PowerCut):
                    pass
                disk.dark = False
            for left in [disk, *disk.outcomes()]:
                assert kept(left), (call, how)
                with in_use(left):
                    left.arm(None)
                    Journal(PATH).append(row(1))
                assert content(left) == LINES[0] + LINES[1]
