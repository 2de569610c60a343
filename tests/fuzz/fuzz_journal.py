"""Journals with damaged bytes and hostile rows: every reader says the same, the writer goes on, and repair repairs."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from candletune.journal import Journal, Problems, Row, Side, read_frame, read_rows
from candletune.journal.repair import Examination, examine, repair
from candletune.journal.rows import sealed
from fuzz.damage import damaged, hostile_json, hostile_value
from fuzz.driver import Check, Target

START = datetime(2025, 1, 1, tzinfo=UTC)
SIDE = Side("ok", "BUY", "RSI 28.3 – oversold", {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3}, 12.5)
OTHER = Side("error", error="no such file")


def row(number: int) -> Row:
    return Row(START + timedelta(hours=number), "BTC", 100.5, "p", "t", "b", SIDE, OTHER)


LINES = [row(number).line() for number in range(3)]
NEXT = row(100)


def unsealed(line: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line) | {"schema": 1}
    del value["crc32"]
    return value


def hostile_line(rng: random.Random) -> bytes:
    """A row near a good one, without a checksum or with one that holds."""
    good = unsealed(rng.choice(LINES))
    if rng.random() < 0.5:
        side = rng.choice(("active", "shadow"))
        key = rng.choice([*good[side], "probabilities"])
        good = good | {side: good[side] | {key: hostile_value(rng)}}
        text = json.dumps(good, default=str) if "10000" not in repr_of(good) else "{}"
    else:
        text = hostile_json(rng, good)
    line = text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    return sealed(line) if rng.random() < 0.2 and line.endswith(b"}") else line


def repr_of(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # thousands of digits
        return "10000"


def make(rng: random.Random) -> bytes:
    """A file of a few lines."""
    lines = [*LINES]
    if rng.random() < 0.5:
        lines.insert(rng.randrange(4), hostile_line(rng) + b"\n")
    data = b"".join(lines)
    return damaged(rng, data) if rng.random() < 0.6 else data


def kinds(found: Examination) -> str:
    return found.faults[0].kind if found.faults else "whole"


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    path = folder / "log.jsonl"

    def check(case: bytes) -> str:
        for name in folder.iterdir():
            if name.name.startswith("log.jsonl") and not name.name.endswith(".lock"):
                name.unlink()
        path.write_bytes(case)
        by_line, by_frame = Problems(), Problems()
        rows = list(read_rows(path, problems=by_line))
        frame = read_frame(path, problems=by_frame)
        found = examine(path)
        assert path.read_bytes() == case, "reading wrote"
        assert len(frame) == found.rows == len(rows) - by_frame.duplicates
        assert by_line.broken == by_frame.broken == sum(fault.kind == "broken" for fault in found.faults)
        assert by_line.unchecked == by_frame.unchecked >= found.unchecked
        for line in LINES:  # what was not damaged is read
            if line in case.splitlines(keepends=True):
                assert any(r["timestamp"] == json.loads(line)["timestamp"] for r in rows)
        journal = Journal(path)
        assert journal.problems.broken == by_line.broken
        journal.append(NEXT)
        if len(case) % 4:
            return kinds(found)
        repair(path)
        after = examine(path)
        assert (after.rows, after.faults) == (found.rows + 1, ())
        assert len(read_frame(path)) == after.rows
        return kinds(found)

    yield check


TARGET = Target(make=make, opened=opened)
