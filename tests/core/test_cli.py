"""The command line: fast help, DESIGN's exit codes, one-line errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from candletune import __version__
from candletune.cli import COMMANDS, main

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
    assert "Error" in err


def test_missing_configuration_is_2_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = leave(capsys, "dataset")
    assert code == 2
    assert err == ("error: candletune.toml: no such file; `candletune init` writes one, or name it with --config\n")


def test_an_internal_error_is_1_and_debug_shows_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("candletune.config.load_config", fail)
    code, _, err = leave(capsys, "dataset")
    assert (code, err) == (1, "internal error: RuntimeError: two lines (--debug shows where)\n")
    with pytest.raises(RuntimeError, match="two"):
        main(["dataset", "--debug"])


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("candletune.config.load_config", interrupt)
    code, _, err = leave(capsys, "dataset")
    assert code == 130
    assert "run the same command again to resume" in err
