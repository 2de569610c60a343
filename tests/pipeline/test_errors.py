"""Missing or broken input is one line, with DESIGN's exit code, from the program itself."""

from pathlib import Path

import pytest

from candletune.cli import main

TOML = '[run]\nfolder = "{run}"\n[data]\nfolder = "{data}"\n'


def leave(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("toml", "code", "words"),
    [
        ('[data]\nfolder = "{tmp}/none"', 3, ("none", "no such")),
        ("[data]\nfolders = 1", 2, ("data.folders",)),
        ("[data\n", 2, ("candletune.toml",)),
        ("[train]\nlora_rank = 0", 2, ("train.lora_rank",)),
        ('[data]\ntimeframe = "1x"', 2, ("data.timeframe", "1x")),
        ("unknown = 1", 2, ("unknown",)),
        (
            '[base]\nmodel = "no such model!"\n[simulate]\nenabled = true\nyears = 0.3\n[dataset]\nper_class = 5',
            3,
            ("no such model!",),
        ),
    ],
)
def test_run_says_what_is_wrong(
    toml: str, code: int, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "candletune.toml"
    config.write_text(f'{toml.replace("{tmp}", str(tmp_path))}\n[run]\nfolder = "{tmp_path / "run"}"\n')
    got, err = leave(capsys, "run", "--config", str(config))
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert got == code, err
    assert "Traceback" not in err
    assert any(all(word in line for word in words) for line in lines), err


@pytest.mark.parametrize("command", ["train", "export", "verify", "replay", "evaluate", "report"])
def test_a_stage_without_what_it_needs_says_which_one_to_run(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "candletune.toml"
    config.write_text(f'[run]\nfolder = "{tmp_path / "run"}"\n[data]\nfolder = "{tmp_path}"\n')
    code, err = leave(capsys, command, "--config", str(config))
    assert code == 3, err
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
