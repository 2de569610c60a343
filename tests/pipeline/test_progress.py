"""`status` while a stage works, and after it was killed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from candletune.artifacts import StageSummary
from candletune.config import Config, load_config
from candletune.console import Reporter, SilentReporter
from candletune.runs import RunFolder
from candletune.stages.progress import read_progress
from candletune.stages.runner import Stage, run_stage
from candletune.status import RunStatus, status_of
from candletune.status_text import print_status


def shown(status: RunStatus) -> str:
    out = io.StringIO()
    print_status(status, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def config_of(folder: Path) -> Config:
    return load_config(
        None, [f"run.folder={folder}", f"live.state={folder / 'a.json'}", f"live.journal={folder / 'j'}"]
    )


def test_a_stage_at_work_shows_how_far_it_is(tmp_path: Path) -> None:
    config, run = config_of(tmp_path), RunFolder(tmp_path)
    seen: list[str] = []

    def work(_: Config, run: RunFolder, reporter: Reporter) -> StageSummary:
        seen.append(shown(status_of(config, run)))
        with reporter.task("training", 300) as task:
            task.advance(120, "loss 0.41")
            reporter.write(task._pace)  # type: ignore[attr-defined]
            seen.append(shown(status_of(config, run)))
        return StageSummary()

    stage = Stage("train", "Train", ("train",), lambda *_: {}, (), work)
    run_stage(stage, config, run, SilentReporter())
    assert "running" in seen[0]
    assert "training: 120 of 300 (40" in seen[1]
    assert "left; loss 0.41" in seen[1]
    assert read_progress(run) is None
    assert "running" not in shown(status_of(config, run))


def test_the_file_goes_when_a_stage_fails(tmp_path: Path) -> None:
    def work(*_: Any) -> StageSummary:
        raise KeyboardInterrupt

    stage = Stage("train", "Train", ("train",), lambda *_: {}, (), work)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, config_of(tmp_path), RunFolder(tmp_path), SilentReporter())
    assert not (RunFolder(tmp_path).progress).exists()


@pytest.mark.parametrize("stale", [{"pid": 2**22 + 7}, {"process_started": 1.0}], ids=["gone", "number given away"])
def test_a_killed_stage_is_said_to_be_stopped(tmp_path: Path, stale: dict[str, Any]) -> None:
    config, run = config_of(tmp_path), RunFolder(tmp_path)

    def work(_: Config, run: RunFolder, reporter: Reporter) -> StageSummary:
        with reporter.task("training", 300):
            (tmp_path / "left.json").write_bytes((RunFolder(tmp_path).progress).read_bytes())
        return StageSummary()

    run_stage(Stage("train", "Train", ("train",), lambda *_: {}, (), work), config, run, SilentReporter())
    left = json.loads((tmp_path / "left.json").read_text()) | stale
    (RunFolder(tmp_path).progress).write_text(json.dumps(left))
    text = shown(status_of(config, run))
    assert "running" not in text
    assert "train was stopped about" in text
    (RunFolder(tmp_path).progress).write_text("{")
    assert status_of(config, run).running is None
