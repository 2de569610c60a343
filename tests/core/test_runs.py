"""The run folder: nothing half-written, nothing run twice, nothing stale kept."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from candletune.artifacts import ExportSummary, StageSummary
from candletune.config import Config, load_config
from candletune.console import Reporter, SilentReporter
from candletune.errors import InputError, UsageError
from candletune.files import atomic_folder, atomic_path, read_json, write_json, write_text
from candletune.hashes import sha256_path
from candletune.runs import RunFolder
from candletune.stages.runner import Stage, run_stage
from stage_entries import entry_of


class Copied(StageSummary):
    STAGE: ClassVar[str] = "copy"


def counting_stage(calls: list[int], source: Path) -> Stage:
    def work(config: Config, run: RunFolder, reporter: Reporter) -> StageSummary:
        calls.append(config.dataset.per_class)
        write_text(run.file("out", "copy.txt"), source.read_text() + str(config.dataset.per_class))
        return Copied(headline="copied")

    return Stage("copy", "Copy", ("dataset",), lambda config, run: {"source": source}, ("out",), work, Copied)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("one")
    return path


def test_a_stage_runs_once_and_again_when_something_it_reads_changes(tmp_path: Path, source: Path) -> None:
    calls: list[int] = []
    stage, run, quiet = counting_stage(calls, source), RunFolder(tmp_path / "run"), SilentReporter()
    config = Config()
    assert not run_stage(stage, config, run, quiet).skipped
    assert run_stage(stage, config, run, quiet).skipped
    source.write_text("two")
    assert not run_stage(stage, config, run, quiet).skipped
    changed = load_config(None, ["dataset.per_class=7"])
    assert not run_stage(stage, changed, run, quiet).skipped
    unrelated = load_config(None, ["dataset.per_class=7", "train.lora_rank=4"])
    assert run_stage(stage, unrelated, run, quiet).skipped
    run.file("out", "copy.txt").write_text("tampered")
    assert not run_stage(stage, unrelated, run, quiet).skipped
    assert run.file("out", "copy.txt").read_text() == "two7"
    assert calls == [1000, 1000, 7, 7]


def test_force_runs_again(tmp_path: Path, source: Path) -> None:
    calls: list[int] = []
    stage, run = counting_stage(calls, source), RunFolder(tmp_path / "run")
    run_stage(stage, Config(), run, SilentReporter())
    assert not run_stage(stage, Config(), run, SilentReporter(), force=True).skipped
    assert len(calls) == 2


def test_a_missing_input_names_itself_and_the_command(tmp_path: Path) -> None:
    stage = counting_stage([], tmp_path / "absent.txt")
    with pytest.raises(InputError, match=r"absent\.txt: missing \(source\), needed by `candletune copy`"):
        run_stage(stage, Config(), RunFolder(tmp_path / "run"), SilentReporter())


def test_summary_of_a_stage_that_has_not_run(tmp_path: Path, source: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=r"stage 'copy' has not run here; run `candletune copy` first"):
        run.summary(Copied)
    run_stage(counting_stage([], source), Config(), run, SilentReporter())
    assert run.summary(Copied) == Copied(headline="copied")


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_json(run.file("manifest.json"), {"version": 2})
    with pytest.raises(InputError, match=r"manifest\.json: version 2, expected at most 1; use a new run\.folder"):
        run.manifest()


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    """What a write raises names no file, and the user would not know which disk is meant."""
    target = tmp_path / "value.txt"
    with pytest.raises(OSError, match=r"No space left on device: '.*value\.txt'"), atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file beside it is what the system refuses, and its name tells nobody anything."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / ".value.txt.x.tmp"))

    monkeypatch.setattr("candletune.files.tempfile.mkstemp", refuse)
    with pytest.raises(InputError, match=r"/value\.txt: cannot be written \(Read-only file system\)"):
        write_text(tmp_path / "value.txt", "x")


def test_failed_writes_leave_the_old_file_and_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "value.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["value.txt"]


def test_atomic_folder_replaces_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("a", "b"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["b"]

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "c").write_text("c")
            raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert [p.name for p in target.iterdir()] == ["b"]


def test_nan_never_reaches_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), ("{", "not valid JSON"), ("\udcff", "not valid JSON")]
)
def test_read_json_errors(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        read_json(path)


def test_folder_hash_sees_names_and_contents_but_not_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_path(tmp_path)
    (tmp_path / ".lock").write_text("")
    assert sha256_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_path(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, sha256_path(tmp_path)}) == 3


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from candletune.runs import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock():\n    print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another candletune process"), RunFolder(tmp_path).lock():
            pass
        process.kill()
        process.wait()
        with RunFolder(tmp_path).lock():
            pass
    finally:
        process.kill()
        process.communicate()


def test_a_summary_that_lacks_what_the_stage_says_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.manifest().with_stage("export", entry_of(StageSummary(headline="no kind"))).write(run.manifest_file)
    with pytest.raises(InputError, match=r"manifest\.json: export: summary\.kind: .*run `candletune export --force`"):
        run.summary(ExportSummary)


def test_a_skipped_stage_says_what_it_said(tmp_path: Path, source: Path) -> None:
    stage, run = counting_stage([], source), RunFolder(tmp_path / "run")
    first = run_stage(stage, Config(), run, SilentReporter())
    again = run_stage(stage, Config(), run, SilentReporter())
    assert (first.skipped, again.skipped) == (False, True)
    assert again.summary_as(Copied) == first.summary_as(Copied)
    with pytest.raises(TypeError, match="not a ExportSummary"):
        again.summary_as(ExportSummary)
