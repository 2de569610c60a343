"""Commands and file operations under Windows' rules, imposed by tests/windows_rules.py."""

import io
import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import candletune.files as files
from candletune import process
from candletune.cli import main
from candletune.config import load_config
from candletune.errors import InputError
from candletune.hashes import sha256_path
from candletune.journal import Journal, Row, Side, read_frame
from candletune.live import promotion
from candletune.live.models import active_model
from windows_rules import BrokenRule, Rules

SIMULATED = ("simulate.enabled=true", "simulate.years=1", "dataset.per_class=60", "dataset.natural_eval=40")


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


# --- the rules themselves ------------------------------------------------------------------------------------------


def test_the_rules_are_imposed(tmp_path: Path, windows: Rules) -> None:
    windows.impose()
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with path.open("rb") as stream:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(stream.fileno())
        with pytest.raises(PermissionError):
            path.unlink()
        with pytest.raises(PermissionError):
            (tmp_path / "file").replace(tmp_path / "other")
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="syntax is incorrect"):
        (tmp_path / "12:30.json").write_bytes(b"")
    with pytest.raises(OSError, match="syntax is incorrect"):
        (tmp_path / "aux.txt").write_bytes(b"")
    (tmp_path / "text").write_text("a\n", encoding="utf-8")
    assert (tmp_path / "text").read_bytes() == b"a\r\n"
    with pytest.raises(FileNotFoundError):
        (tmp_path / ("x" * 240) / "y").mkdir()
    with pytest.raises(ImportError):
        import fcntl  # noqa: F401
    assert not hasattr(os, "fork")
    assert issubclass(BrokenRule, AssertionError)


# --- files ---------------------------------------------------------------------------------------------------------


def test_text_keeps_its_bytes(tmp_path: Path, windows: Rules) -> None:
    windows.impose()
    files.write_text(tmp_path / "a.jsonl", "é\n–\n")
    files.append_line(tmp_path / "a.jsonl", "→")
    assert (tmp_path / "a.jsonl").read_bytes() == "é\n–\n→\n".encode()


def test_a_reader_in_between_is_waited_for(tmp_path: Path, windows: Rules) -> None:
    target = tmp_path / "status.json"
    target.write_bytes(b"{}")
    windows.impose()
    windows.patch.setattr(files, "PATIENCE", 10.0)
    reader = target.open("rb")
    threading.Timer(0.2, reader.close).start()
    files.write_json(target, {"done": True})
    assert json.loads(target.read_bytes()) == {"done": True}


def test_a_file_that_stays_open_is_named_and_left_as_it_was(tmp_path: Path, windows: Rules) -> None:
    target, folder = tmp_path / "report.html", tmp_path / "adapter"
    target.write_bytes(b"old")
    folder.mkdir()
    (folder / "weights").write_bytes(b"old")
    windows.impose()
    with target.open("rb"), pytest.raises(InputError, match=r"report\.html: cannot be replaced .*close the program"):
        files.write_text(target, "new")

    def rewrite() -> None:
        with files.atomic_folder(folder) as temporary:
            (temporary / "weights").write_bytes(b"new")

    with (folder / "weights").open("rb"):
        with pytest.raises(InputError, match=r"adapter.* cannot be replaced"):
            rewrite()
        with pytest.raises(InputError, match="weights: cannot be removed"):
            files.remove(folder / "weights")
        with pytest.raises(InputError, match="adapter: cannot be removed"):
            files.remove_folder(folder)
    assert (target.read_bytes(), (folder / "weights").read_bytes()) == (b"old", b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "report.html"]
    rewrite()
    assert (folder / "weights").read_bytes() == b"new"


def test_a_folder_steps_back_into_place_when_the_new_one_cannot_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "weights").write_bytes(b"old")
    move = files.move

    def refuse(source: Path, target: Path) -> None:
        if source.name.endswith(".tmp"):
            raise InputError("refused")
        move(source, target)

    monkeypatch.setattr(files, "move", refuse)
    with pytest.raises(InputError, match="refused"), files.atomic_folder(folder) as temporary:
        (temporary / "weights").write_bytes(b"new")
    assert (folder / "weights").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (r"C:\runs\a.json", r"\\?\C:\runs\a.json"),
        ("C:/runs/../a.json", r"\\?\C:\a.json"),
        (r"\\nas\share\a.json", r"\\?\UNC\nas\share\a.json"),
        (r"\\?\C:\a.json", r"\\?\C:\a.json"),
    ],
)
def test_the_long_form_of_a_windows_path(given: str, expected: str) -> None:
    assert files.extended(given) == expected


def test_paths_longer_than_windows_allows(tmp_path: Path, windows: Rules) -> None:
    windows.impose()
    deep = tmp_path.joinpath(*["folder-of-some-length"] * 14)
    assert len(str(deep)) > 300
    files.write_json(deep / "a.json", {"deep": 1})
    assert files.read_json(deep / "a.json") == {"deep": 1}
    files.move(deep / "a.json", deep / "b.json")
    files.copy(deep / "b.json", deep / "c.json")
    files.remove(deep / "b.json")
    files.append_line(deep / "c.json", "more")
    assert [path.name for path in files.long_path(deep).iterdir()] == ["c.json"]


def test_short_paths_and_other_systems_see_the_path_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path.joinpath(*["folder-of-some-length"] * 14)
    assert files.long_path(long) is long
    monkeypatch.setattr(files, "WINDOWS", True)
    short = Path("/runs/a")
    assert files.long_path(short) is short
    assert str(files.long_path(short, room=300)).startswith("\\\\?\\")


# --- streams and signals -------------------------------------------------------------------------------------------


def test_pipes_speak_utf8_and_terminals_never_end_the_program(windows: Rules) -> None:
    out, err = windows.console()
    process.utf8_streams()
    print("Überkauft – 比特币 →")
    print("Überkauft – 比特币 →", file=sys.stderr)
    assert out.getvalue().decode() == "Überkauft – 比特币 →\n"
    assert err.getvalue().decode().startswith("Überkauft – 比特币 →")

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    windows.patch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252", write_through=True))
    process.utf8_streams()
    print("BUY – → 币")
    assert shown.getvalue().decode("cp1252").startswith("BUY – \\u2192")


def test_a_context_is_read_as_utf8(windows: Rules) -> None:
    data = io.BytesIO('{"headlines": "比特币 – é"}'.encode())
    windows.patch.setattr(sys, "stdin", io.TextIOWrapper(data, encoding="cp1252"))
    process.utf8_streams()
    assert json.loads(sys.stdin.read()) == {"headlines": "比特币 – é"}


# --- commands ------------------------------------------------------------------------------------------------------


def test_init_and_a_simulated_dataset(tmp_path: Path, windows: Rules) -> None:
    windows.impose()
    out, err = windows.console()
    file = tmp_path / "config" / "candletune.toml"
    assert leave("init", str(file)) == 0, err.getvalue().decode()
    assert b"\r\n" not in file.read_bytes()
    settings = [part for text in SIMULATED for part in ("--set", text)]
    run = tmp_path / "run"
    # The second build takes the place of the first one's folder.
    for extra in ([], ["--force"]):
        code = leave("dataset", "--config", str(file), "--set", f"run.folder={run}", *settings, *extra)
        assert code == 0, err.getvalue().decode()
    data = (run / "dataset" / "lora_training.jsonl").read_bytes()
    assert data.count(b"\n") > 100
    assert b"\r" not in data
    assert leave("status", "--config", str(file), "--set", f"run.folder={run}", "--json") == 0
    assert json.loads(out.getvalue().decode().strip())


def test_the_dataset_has_the_same_bytes_as_elsewhere(tmp_path: Path, windows: Rules) -> None:
    hashes = []
    for name in ("here", "there"):
        if name == "there":
            windows.impose()
        settings = [part for text in (*SIMULATED, f"run.folder={tmp_path / name}") for part in ("--set", text)]
        file = tmp_path / "empty.toml"
        file.write_bytes(b"")
        assert leave("dataset", "--config", str(file), *settings) == 0
        hashes.append(sha256_path(tmp_path / name / "dataset" / "lora_training.jsonl"))
    assert hashes[0] == hashes[1]


def row(hour: int) -> Row:
    side = Side("ok", "BUY", "RSI 28.3 – oversold", {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3}, 12.5, None)
    time_ = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return Row(time_, "BTC", 100.5, "p" * 64, "t" * 64, "b" * 64, active=side, shadow=side)


def test_a_journal_with_a_torn_end_and_a_reader(tmp_path: Path, windows: Rules) -> None:
    windows.impose()
    path = tmp_path / "live" / "ab_test_log.jsonl"
    journal = Journal(path)
    journal.append_many([row(1), row(2)])
    handle = files.open_append(path)
    os.write(handle, b'{"torn')
    os.close(handle)
    with path.open("rb"):
        journal.append(row(3))
    assert path.with_name("ab_test_log.jsonl.torn").stat().st_size > 0
    assert len(read_frame(path)) == 3
    assert b"\r" not in path.read_bytes()


@pytest.mark.usefixtures("any_file_loads")
def test_promote_and_rollback(tmp_path: Path, windows: Rules) -> None:
    run: dict[str, Any] = {"run.folder": tmp_path / "run", "live.state": tmp_path / "live" / "active.json"}
    exported = tmp_path / "run" / "gguf" / "custom-trading-lora.gguf"
    exported.parent.mkdir(parents=True)
    exported.write_bytes(b"candidate")
    (tmp_path / "old.gguf").write_bytes(b"incumbent")
    windows.impose()
    config = load_config(
        None, [f"{key}={value}" for key, value in run.items()] + [f"incumbent.adapter={tmp_path / 'old.gguf'}"]
    )
    promoted = promotion.promote(config, force="paper account")
    with promoted.path.open("rb") if promoted.path else io.BytesIO():  # the live engine has it loaded
        assert active_model(config).sha256 == promoted.sha256
        promotion.rollback(config, reason="flips")
    assert active_model(config).name == "old"
