"""Estimated times: what is measured, what is made of it, and where it is said."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from candletune.artifacts import RunManifest, StageSummary
from candletune.config import Config, load_config
from candletune.console import RichReporter, SilentReporter
from candletune.preflight import estimate
from candletune.preflight.estimate import estimates, replay_rows, say_estimates
from candletune.preflight.measure import measure
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.pipeline import prepare
from stage_entries import entry_of


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("run")
    made = load_config(
        None,
        [
            f"run.folder={folder}",
            "base.model=tiny",
            "simulate.enabled=true",
            "simulate.years=0.5",
            "train.max_steps=10",
        ],
    )
    return prepare(made, RunFolder(folder), SilentReporter())


SECONDS = {"render": 0.001, "candles": 0.5, "step": 2.0, "score": 0.1, "generate": 3.0}


def test_seconds_are_made_of_what_was_measured(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_measured", lambda *_: SECONDS)
    found = {one.stage: one for one in estimates(config, RunFolder(config.run.folder), list(STAGES))}
    assert list(found) == list(STAGES)
    assert found["train"].seconds == 10 * 2.0
    assert found["verify"].seconds == pytest.approx(500 * 0.1 + 50 * (2 * 0.1 + 3.0))
    rows = replay_rows(config)
    assert found["replay"].seconds == pytest.approx(2 * (rows * 0.1 + 50 * 3.0))
    assert found["dataset"].seconds == pytest.approx(6 * 0.5 + 2 * 3500 * 0.001)
    assert found["report"].seconds is None


def test_rows_of_a_replay(config: Config) -> None:
    copy = config.model_copy
    half = copy(update={"replay": config.replay.model_copy(update={"stride": 2})})
    few = copy(update={"replay": config.replay.model_copy(update={"limit": 7})})
    assert replay_rows(half) == pytest.approx(replay_rows(config) / 2, abs=2)
    assert replay_rows(few) == 14


def test_without_a_measurement_the_last_time_counts(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_measured", lambda *_: {})
    run = RunFolder(config.run.folder)
    entry = entry_of(StageSummary()).model_copy(update={"seconds": 321.0})
    RunManifest(stages={"train": entry}).write(run.manifest_file)
    out = io.StringIO()
    say_estimates(config, run, RichReporter(Console(file=out, width=200)), list(STAGES))
    run.manifest_file.unlink()
    assert "train     about 5 min 21 s (as long as the last time)" in out.getvalue()
    assert "replay    not known" in out.getvalue()
    assert "rough" in out.getvalue()


def test_nothing_is_measured_for_a_report_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, float]:
        raise AssertionError("measured")

    monkeypatch.setattr(estimate, "_measured", fail)
    say_estimates(config, RunFolder(config.run.folder), SilentReporter(), ["evaluate", "report"])


def test_a_measurement_that_fails_is_no_error(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candletune.preflight.estimate.sys.executable", "/bin/false")
    assert estimate._measured(config, RunFolder(config.run.folder)) == {}


@pytest.mark.slow
def test_steps_are_really_taken(config: Config, random_base: Path) -> None:
    small = config.model_copy(update={"train": config.train.model_copy(update={"effective_batch": 2})})
    found = measure(small, random_base, None)
    assert set(found) == {"render", "candles", "step"}
    assert all(seconds > 0 for seconds in found.values())


def test_what_cannot_be_measured_is_left_out(config: Config, tmp_path: Path) -> None:
    assert set(measure(config, tmp_path / "none", tmp_path / "none.gguf")) == {"render", "candles"}


def test_nothing_is_said_before_the_first_line_of_ours() -> None:
    """bitsandbytes complains on import of what no user can act on; it comes in with the stages, which silence it."""
    code = "import sys, candletune.commands.run, candletune.preflight.estimate; sys.exit('bitsandbytes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
