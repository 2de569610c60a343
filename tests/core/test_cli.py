"""The command line: fast help, DESIGN's exit codes, one-line errors."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from candletune import __version__
from candletune.cli import COMMANDS, main
from candletune.config import Config

HEAVY = ("torch", "transformers", "polars", "llama_cpp", "plotly", "sklearn", "scipy", "pydantic", "numpy", "pyarrow")


def leave(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom candletune.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as leave:\n    assert leave.code == 0, leave.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if len(arguments) > 1:
        assert "Example" in done.stdout
        assert f"candletune {arguments[0]}" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(capsys, "--version")[:2] == (0, f"candletune, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["dataset", "--nonsense"], ["dataset", "--set"]])
def test_bad_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = leave(capsys, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_missing_configuration_is_2_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = leave(capsys, "dataset")
    assert code == 2
    assert err == (
        "error: candletune.toml: no such file; `candletune init` writes one, or name it with --config "
        "(or do without: --set data.folder=...)\n"
    )


def test_an_internal_error_is_1_and_debug_shows_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("candletune.config.load_config", fail)
    code, _, err = leave(capsys, "dataset", "--set", "data.folder=x")
    assert (code, err) == (1, "internal error: RuntimeError: two lines (--debug shows where)\n")
    with pytest.raises(RuntimeError, match="two"):
        main(["dataset", "--set", "data.folder=x", "--debug"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/adapter.gguf"), ("/x/adapter.gguf", "make room")),
        (OSError(errno.EROFS, "Read-only file system", "/x"), ("/x: Read-only", "another disk")),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ("/x: Permission denied", "of your own")),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), ("disk", "make room")),
        (MemoryError("Unable to allocate 63.8 TiB"), ("out of memory", "63.8 TiB")),
    ],
)
def test_what_the_machine_refuses_is_no_internal_error(
    error: Exception, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("candletune.cli.program.main", refuse)
    with pytest.raises(SystemExit) as caught:
        main(["status"])
    err = capsys.readouterr().err
    assert caught.value.code == 3
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in words)


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("candletune.config.load_config", interrupt)
    code, _, err = leave(capsys, "dataset", "--set", "data.folder=x")
    assert code == 130
    assert "run the same command again to resume" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reply"], "reply: no such command; did you mean replay?"),
        (["fetch", "candels"], "candels: no such command; did you mean candles?"),
        (["xyz"], "xyz: no such command; commands: init, doctor,"),
        (["dataset", "--audit", "-5"], "'--audit': -5 is not in the range x>=1"),
        (["run", "--forse"], "--force"),
        (["run", "--set", "data.folder=x", "--set", "per_class=5"], "did you mean dataset.per_class?"),
        (["trian"], "trian: no such command; did you mean train?"),
        (["run", "--set", "data.folder=x", "--set", "train.lr=1"], "did you mean learning_rate or lora_rank?"),
        (["run", "--set", "data.folder=x", "--set", "train.rank=4"], "did you mean lora_rank?"),
    ],
)
def test_one_line_with_the_remedy(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, _, err = leave(capsys, *arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1


def test_without_a_file_every_needed_key_will_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert leave(capsys, "status", "--set", "run.folder=here")[0] == 0
    assert leave(capsys, "status")[0] == 2
    code, _, err = leave(capsys, "replay", "--set", "run.folder=here")
    assert (code, "do without: --set data.folder=" in err) == (2, True)
    code, _, err = leave(capsys, "status", "--config", "candletune.toml", "--set", "run.folder=here")
    assert (code, "no such file" in err) == (2, True)


def test_a_journal_with_a_quote_in_its_name_arrives_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "candles").mkdir()
    seen: list[object] = []

    def stop(_: object, config: Config, *__: object, **___: object) -> None:
        seen.append(config.evaluate.journal)
        raise KeyboardInterrupt

    monkeypatch.setattr("candletune.stages.runner.run_stage", stop)
    arguments = ("--set", "data.folder=candles", "--set", "run.folder=r", "--journal", "o'brien/ab.jsonl")
    assert leave(capsys, "evaluate", *arguments)[0] == 130
    assert seen == [tmp_path / "o'brien" / "ab.jsonl"]


def test_review_without_anything_to_review_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = leave(capsys, "review", "--no-browser", "--set", "run.folder=here")
    assert (code, "run `candletune replay`" in err) == (3, True)
