"""`journal check` finds what is no row; `journal repair` takes it out, and keeps the file as it was."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from candletune.commands.journal import journal as command
from candletune.errors import CheckFailed, InputError
from candletune.files import remove
from candletune.journal import DuplicateRow, Journal, Row, Side, read_frame
from candletune.journal import repair as module
from candletune.journal.repair import examine, repair

SIDE = Side("ok", "BUY", latency_ms=1.0)


def row(hour: int) -> Row:
    return Row(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hour), "BTC", 1.0, "p", "t", "b", SIDE, SIDE)


def old(hour: int) -> bytes:
    value = json.loads(row(hour).line()) | {"schema": 1}
    del value["crc32"]
    return json.dumps(value).encode() + b"\n"


GOOD = [old(1), row(2).line(), row(3).line()]
FLIPPED = row(4).line().replace(b'"price":1.0', b'"price":1.5')
DAMAGED = b"".join([GOOD[0], b"\0" * 40 + b"\n", GOOD[1], FLIPPED, row(2).line(), GOOD[2], row(5).line()[:70]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ab_test_log.jsonl"
    path.write_bytes(DAMAGED)
    return path


def test_an_examination_names_every_line_and_writes_nothing(path: Path) -> None:
    found = examine(path)
    assert (found.rows, found.unchecked) == (3, 1)
    assert [(fault.line, fault.kind) for fault in found.faults] == [
        (2, "broken"),
        (4, "broken"),
        (5, "duplicate"),
        (7, "torn"),
    ]
    assert "checksum" in found.faults[1].why
    assert found.headline == "3 rows (1 of them without a checksum), 2 broken, 1 duplicate, 1 torn"
    assert path.read_bytes() == DAMAGED
    assert sorted(path.parent.iterdir()) == [path]


def test_a_repair_keeps_good_rows_byte_for_byte_and_the_file_as_it_was(path: Path) -> None:
    running = Journal(path)  # sets the torn end aside, as every writer does
    path.write_bytes(DAMAGED)
    found, kept = repair(path)
    assert kept is not None
    assert kept.read_bytes() == DAMAGED
    assert path.read_bytes() == b"".join(GOOD)
    assert len(found.faults) == 4
    assert len(read_frame(path)) == 3
    with pytest.raises(DuplicateRow):  # a loop that was running goes on with the repaired file
        running.append(row(3))
    running.append(row(4))
    assert examine(path).rows == 4
    assert repair(path) == (examine(path), None)
    path.write_bytes(DAMAGED)
    assert repair(path)[1] not in (None, kept), "an earlier copy is never overwritten"
    assert kept.read_bytes() == DAMAGED


@pytest.mark.parametrize("step", ["_copy_beside", "write_pieces"])
def test_a_repair_that_does_not_fit_leaves_the_file_as_it_was(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    with pytest.raises(InputError, match=r"cannot be repaired .*is as it was"):
        repair(path)
    assert path.read_bytes() == DAMAGED
    assert not list(path.parent.glob("*.tmp"))


def test_a_row_of_a_later_candletune_is_left_alone(path: Path) -> None:
    path.write_bytes(json.dumps({"schema": 3}).encode() + b"\n")
    for look in (examine, repair):
        with pytest.raises(InputError, match=r":1: schema 3.*use the candletune that wrote it"):
            look(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def test_the_commands(path: Path, tmp_path: Path) -> None:
    checked = run("check", str(path))
    assert isinstance(checked.exception, CheckFailed)
    assert "candletune journal repair" in str(checked.exception)
    said = " ".join(checked.stderr.split())
    assert "jsonl:4: broken: its checksum says that bytes were changed" in said.replace("ab_test_log.", "")
    config = tmp_path / "candletune.toml"
    config.write_text(f'[live]\njournal = "{path.as_posix()}"\n')
    repaired = run("repair", "--config", str(config))
    assert repaired.exception is None
    assert "3 rows kept, 4 lines taken out" in " ".join(repaired.stderr.split())
    assert run("check", "--config", str(config)).exception is None
    assert "nothing to repair" in " ".join(run("repair", str(path)).stderr.split())
    remove(path)
    assert isinstance(run("check", str(path)).exception, InputError)
