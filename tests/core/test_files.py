"""Files: what killed processes left is swept, and unreadable ones are refused in a line."""

import os
import time
from pathlib import Path

import pytest

from candletune import files
from candletune.errors import InputError
from candletune.files import atomic_folder, read_json, write_text

DAY = 24 * 3600


def aged(path: Path, seconds: float) -> Path:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def test_temporary_files_of_killed_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kill -9` in the middle of a write leaves one each time; for months."""
    target = tmp_path / "state.json"
    old, fresh, others = (
        tmp_path / name for name in (".state.json.a1.tmp", ".state.json.b2.tmp", ".other.json.c3.tmp")
    )
    for path in (old, fresh, others):
        path.write_text("half")
    folder = tmp_path / ".state.json.d4.tmp"
    folder.mkdir()
    (folder / "part").write_text("half")
    busy = tmp_path / ".state.json.e5.tmp"
    busy.mkdir()
    (busy / "part").write_text("still being written")
    for path in (old, others, folder / "part", folder, busy):
        aged(path, 2 * DAY)
    monkeypatch.setattr(files, "_SWEPT", set())
    write_text(target, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([target, fresh, others, busy])
    aged(fresh, 2 * DAY)
    write_text(target, "again")
    assert fresh.exists(), "once in a process is enough"


def test_a_folders_leftovers_are_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".made.x1.tmp"
    left.mkdir()
    aged(left, 2 * DAY)
    monkeypatch.setattr(files, "_SWEPT", set())
    with atomic_folder(tmp_path / "made") as folder:
        (folder / "part").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("content", [b"\xff", b"[" * 60_000, b"1" + b"0" * 5_000, b"{", b""])
def test_what_is_no_json_is_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: not valid JSON") as refused:
        read_json(path)
    assert len(str(refused.value)) < 600
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)
