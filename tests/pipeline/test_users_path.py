"""The first commands of the README on a folder of candles, without an edit to the file that `init` writes."""

import json
import shutil
from pathlib import Path

import pytest

from candletune.cli import main
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.pipeline import prepare

QUICK = (
    "train.max_steps=4",
    "train.policy_steps=1",
    "train.effective_batch=8",
    "train.eval_steps=0",
    "dataset.per_class=40",
    "dataset.natural_eval=30",
    "verify.prompts=10",
    "verify.reference=none",
    "engine.threads=1",
    "replay.stride=24",
    "replay.reasons=2",
    "evaluate.resamples=100",
    "evaluate.baselines=false",
)
"""Only what makes it quick: nothing here is needed for the path to end."""


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    """freqtrade files of two pairs, as a trader has them."""
    made = load_config(None, [f"run.folder={tmp_path / 'market'}", "simulate.enabled=true", "simulate.years=0.5"])
    folder = prepare(made, RunFolder(made.run.folder), SilentReporter()).data.folder
    return Path(shutil.move(folder, tmp_path / "data"))


@pytest.mark.slow
@pytest.mark.llamacpp
def test_init_and_run_end_in_a_verdict(
    tmp_path: Path, candles: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    assert leave("init", "--folder", "../data") == 0
    config = load_config(home / "candletune.toml")
    assert config.data.folder == candles.resolve()
    assert config.dataset.test_start is None
    settings = [item for text in ("base.model=tiny", *QUICK) for item in ("--set", text)]
    assert leave("doctor", *settings) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert leave("run", *settings) == 0, capsys.readouterr().err
    err = capsys.readouterr().err
    assert "kept out for the replay" in err
    assert "estimated times" in err
    assert "training: done" in err
    run = RunFolder(home / "runs" / "default")
    assert json.loads(run.verdict.read_text())["verdict"] in ("promote", "keep", "not enough evidence")
    assert run.report.is_file()

    monkeypatch.chdir(elsewhere)  # the same configuration from another folder finds everything done
    assert leave("run", "--config", "../home/candletune.toml", *settings) == 0
    err = capsys.readouterr().err
    assert err.count("[up to date]") == len(STAGES)
    assert not (elsewhere / "runs").exists()
    assert leave("status", "--config", "../home/candletune.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["verdict"]
