"""A walk with gradient boosting in the model's place: folds, pooled verdict, ledger, failures, kills."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candletune.artifacts import Metrics, StageSummary, Verdict, Walk
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.evaluation.tries import ledger_of
from candletune.experiments.walk import folds as folds_module
from candletune.experiments.walk.folds import Fold, Part
from candletune.experiments.walk.run import walk
from candletune.experiments.walk.spread import FoldsFailed
from candletune.files import read_json
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare

SETTINGS = """
[run]
folder = "run"
[simulate]
enabled = true
years = 0.75
signal = 1
[live]
state = "live/active.json"
[dataset]
per_class = 80
natural_eval = 60
[evaluate]
resamples = 100
journal = "live/ab_test_log.jsonl"   # a trader who judges a shadow test has it set; a walk judges its own
[replay]
stride = 3
[walk]
model = "boosting"
incumbent = "first"
every = "6w"
window = "10w"
start = 2022-04-01
"""


class Listener(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def configured(folder: Path, *assignments: str) -> Config:
    file = folder / "candletune.toml"
    file.write_text(SETTINGS)
    return load_config(file, assignments)


def go(config: Config) -> tuple[RunFolder, list[str]]:
    """Walk; the walk's own folder, and what was said."""
    run, reporter = RunFolder(config.run.folder), Listener()
    with run.lock():
        walk(prepare(config, run, reporter), run, reporter)
    return RunFolder(run.walk), reporter.said


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder, list[str]]:
    config = configured(tmp_path_factory.mktemp("walk"))
    return config, *go(config)


def test_no_fold_holds_a_candle_or_an_example_from_behind_its_time(
    walked: tuple[Config, RunFolder, list[str]],
) -> None:
    config, own, _ = walked
    record = Walk.read(own.walk_periods)
    assert [period.state for period in record.periods] == ["replayed"] * 4
    for period in record.periods:
        run = RunFolder(own.path / period.folder)
        start, end = datetime.fromisoformat(period.start), datetime.fromisoformat(period.end)
        candles = pl.concat([pl.read_ipc(path) for path in run.candles.glob("*.feather")])
        assert max(candles["date"].to_list()) + timedelta(hours=1) == end
        examples = pl.read_parquet(run.meta)["decision_time"].to_list()
        purge = config.horizon + config.candle * config.dataset.embargo
        assert max(examples) < start - purge
        assert min(examples) >= start - timedelta(weeks=10)
        rows = [json.loads(line) for line in run.journal.read_text().splitlines()]
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        assert min(times) == start
        assert max(times) < end


def test_one_verdict_over_all_periods_counts_once_in_the_ledger(walked: tuple[Config, RunFolder, list[str]]) -> None:
    config, own, said = walked
    verdict, record = Verdict.read(own.verdict), Walk.read(own.walk_periods)
    journals = b"".join(
        (own.path / period.folder / "replay/ab_test_log.jsonl").read_bytes() for period in record.periods
    )
    assert own.journal.read_bytes() == journals
    assert verdict.rows == len(journals.splitlines()) == sum(period.rows for period in record.periods)
    assert verdict.candidate.name == "walk of 4 trainings" and not verdict.decided
    tries = ledger_of(config).tries()
    assert len(tries) == 1 and verdict.spent is not None and list(tries) == [verdict.spent.try_id]
    known = next(iter(tries.values()))
    assert known.registered is not None and known.looks == 1 and verdict.spent.number == 1
    assert any(line.startswith("registered: 4 trainings") for line in said)
    assert Metrics.read(own.metrics).comparison.one_look


def test_the_single_training_is_the_first_periods(walked: tuple[Config, RunFolder, list[str]]) -> None:
    """In its own period it is held against itself; afterwards another one answers."""
    _, own, _ = walked
    periods = Walk.read(own.walk_periods).periods
    assert periods[0].candidate is not None and periods[0].incumbent is not None
    assert {period.incumbent.adapter_sha256 for period in periods if period.incumbent} == {
        periods[0].candidate.adapter_sha256
    }
    assert len({period.candidate.adapter_sha256 for period in periods if period.candidate}) == 4
    assert periods[0].gain is not None and periods[0].gain.value == 0
    assert any(period.gain is not None and period.gain.value for period in periods[1:])


def test_baselines_are_fitted_anew_in_every_period(walked: tuple[Config, RunFolder, list[str]]) -> None:
    """So boosting as a baseline decides what boosting as the candidate did, in all four periods."""
    _, own, _ = walked
    metrics = Metrics.read(own.metrics)
    baseline = metrics.baselines["gradient boosting"]
    assert baseline.balanced_accuracy == metrics.shadow.balanced_accuracy
    assert baseline.signals == metrics.shadow.signals and baseline.lead.value == 0


def test_the_page_shows_every_period(walked: tuple[Config, RunFolder, list[str]]) -> None:
    _, own, _ = walked
    html = own.report.read_text(encoding="utf-8")
    table = html[html.index("By period") :]
    for period in Walk.read(own.walk_periods).periods:
        assert f"{period.start[:10]} to {period.end[:10]}" in table
    assert "Gradient boosting stands in for the language model." in html


def test_a_second_walk_does_nothing(walked: tuple[Config, RunFolder, list[str]]) -> None:
    config, own, _ = walked
    before = {path: path.stat().st_mtime_ns for path in own.path.rglob("*.*") if path != own.walk_periods}
    verdict, ledger = own.verdict.read_bytes(), ledger_of(config).path.read_bytes()
    _, said = go(config)
    assert sum("[up to date]" in line for line in said) == 4 * 2 + 2
    assert own.verdict.read_bytes() == verdict and ledger_of(config).path.read_bytes() == ledger
    changed = {path for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert not changed


@pytest.mark.parametrize(("mode", "incumbents"), [("fixed", {"always HOLD"}), ("previous", None)])
def test_other_incumbents(tmp_path: Path, mode: str, incumbents: set[str] | None) -> None:
    own, _ = go(configured(tmp_path, f"walk.incumbent={mode}", "walk.end=2022-06-20"))
    periods = Walk.read(own.walk_periods).periods
    assert len(periods) == 2
    names = [period.incumbent.name for period in periods if period.incumbent]
    assert set(names) == (incumbents or {"always HOLD", f"boosting before {periods[0].folder.removeprefix('folds/')}"})


def test_new_candles_leave_finished_periods_alone(walked: tuple[Config, RunFolder, list[str]], tmp_path: Path) -> None:
    candles = RunFolder(walked[0].run.folder).candles
    data = tmp_path / "data"
    shutil.copytree(candles / "futures", data)
    settings = (f"data.folder={data}", "simulate.enabled=false", "walk.end=2022-06-24")
    shorter = {}
    for path in data.iterdir():
        shorter[path] = pl.read_ipc(path.read_bytes())
        shorter[path].filter(pl.col("date") < pl.datetime(2022, 7, 1, time_zone="UTC")).write_ipc(path)
    own, _ = go(configured(tmp_path, *settings))
    verdict = own.verdict.read_bytes()
    for path, frame in shorter.items():
        frame.write_ipc(path)
    _, said = go(configured(tmp_path, *settings))
    assert sum("[up to date]" in line for line in said if line[:4] == "2022") == 2 * 2
    assert own.verdict.read_bytes() == verdict


def test_a_failed_period_is_said_and_repeated_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    work = folds_module.work_on

    def broken(fold: Fold, part: Part, reporter: SilentReporter, *, patience: float) -> None:
        if fold.period.number == 1:
            raise InputError("the disk is on fire; put it out")
        work(fold, part, reporter, patience=patience)

    monkeypatch.setattr("candletune.experiments.walk.spread.work_on", broken)
    with pytest.raises(FoldsFailed) as caught:
        go(config)
    assert caught.value.exit_code == 3
    assert caught.value.lines[0] == "period 2022-05-13: the disk is on fire; put it out"
    own = RunFolder(RunFolder(config.run.folder).walk)
    states = [(period.state, period.problem) for period in Walk.read(own.walk_periods).periods]
    assert [state for state, _ in states] == ["trained", "failed", "trained", "trained"]
    assert states[1][1].startswith("the disk")
    assert not own.verdict.exists() and not ledger_of(config).path.exists()

    monkeypatch.undo()
    _, said = go(config)
    datasets = [line for line in said if "  dataset " in line]
    assert ["[up to date]" in line for line in datasets] == [True, False, True, True]
    assert own.verdict.exists()


def test_a_program_error_in_one_period_leaves_the_others_their_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Config, run: RunFolder, reporter: SilentReporter) -> StageSummary:
        raise RuntimeError("no such kernel")

    config = configured(tmp_path, "walk.end=2022-06-20")
    monkeypatch.setattr("candletune.evaluation.stand_in.task_of", broken)
    with pytest.raises(FoldsFailed) as caught:
        go(config)
    assert caught.value.exit_code == 1 and len(caught.value.lines) == 3


def test_killed_at_any_moment_it_ends_with_the_same_verdict_bytes(
    walked: tuple[Config, RunFolder, list[str]], tmp_path: Path
) -> None:
    """A few kills here; `bench/walk.py --kills 20` does twenty."""
    configured(tmp_path)
    command = [sys.executable, "-m", "candletune", "walk", "--config", str(tmp_path / "candletune.toml")]
    rng = random.Random(5)  # noqa: S311
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(1.5, 4.0))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL) if process.poll() is None else None
        process.wait()
    assert killed
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    own = RunFolder(tmp_path / "run" / "walk")
    assert own.verdict.read_bytes() == walked[1].verdict.read_bytes()
    assert own.journal.read_bytes() == walked[1].journal.read_bytes()
    assert read_json(own.walk_periods) == read_json(walked[1].walk_periods)
