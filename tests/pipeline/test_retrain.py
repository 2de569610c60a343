"""`retrain`: only on new candles, against the active adapter, safe to be started twice, and it promotes nothing."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import JsonValue

from candletune.artifacts import RunManifest, StageSummary
from candletune.cli import main
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.errors import InputError, UsageError
from candletune.files import write_json
from candletune.market.simulated import ensure_simulated
from candletune.runs import RunFolder
from candletune.stages import STAGES, stage
from candletune.stages import retrain as module
from candletune.stages.retrain import last_training, new_candles, retrain
from candletune.stages.runner import run_stage
from random_weights import RANDOM_WEIGHTS
from stage_entries import entry_of

SETTINGS = """
[data]
folder = "candles"
[retrain]
min_new_candles = 200
[dataset]
per_class = 40
natural_eval = 60
[train]
device = "cpu"
max_steps = 4
policy_steps = 1
effective_batch = 8
save_steps = 2
eval_steps = 0
learning_rate = 5e-3
optimizer = "adamw_8bit"
[evaluate]
resamples = 200
baselines = false
"""
FIRST, LATER = 5000, 5300
"""Candles a pair, before and after the market went on."""
MANIFEST: dict[str, Any] = {}
"""Of a dataset of the first candles; filled once for this module."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """File name to candles."""
    config = load_config(None, ["simulate.enabled=true", "simulate.years=0.7"])
    folder = ensure_simulated(config, RunFolder(tmp_path_factory.mktemp("market")), SilentReporter())
    return {path.name: pl.read_ipc(path) for path in (folder / "futures").glob("*.feather")}


def real_manifest(folder: Path) -> dict[str, Any]:
    """What the dataset stage writes about the candles of a folder."""
    config = load_config(
        None,
        [f"data.folder={folder}", f"run.folder={folder / 'run'}", "dataset.per_class=20", "dataset.natural_eval=9"],
    )
    run = RunFolder(config.run.folder)
    run.path.mkdir()
    run_stage(stage("dataset"), config, run, SilentReporter())
    manifest: dict[str, Any] = json.loads(run.dataset_manifest.read_text())
    return manifest


@pytest.fixture(scope="module", autouse=True)
def manifest(market: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The manifest of a dataset of the first candles."""
    folder = tmp_path_factory.mktemp("dataset")
    lay_out(folder, market, FIRST)
    MANIFEST.update(real_manifest(folder))


def lay_out(folder: Path, market: dict[str, pl.DataFrame], candles: int) -> None:
    (folder / "futures").mkdir(parents=True, exist_ok=True)
    for name, frame in market.items():
        frame.head(candles).write_ipc(folder / "futures" / name)


def leave(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code, " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.llamacpp
def test_from_the_first_training_to_the_next(
    tmp_path: Path,
    random_base: Path,
    market: dict[str, pl.DataFrame],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    home = tmp_path / "trader"
    home.mkdir()
    file = home / "candletune.toml"
    file.write_text(f'[run]\nfolder = "run"\n[base]\nmodel = "{random_base.as_posix()}"\n{SETTINGS}{RANDOM_WEIGHTS}')
    lay_out(home / "candles", market, FIRST)
    command = ["--config", str(file)]

    code, said = leave(capsys, "retrain", *command)
    assert (code, "nothing was trained here yet; run `candletune run` first" in said) == (3, True)
    code, said = leave(capsys, "run", *command)
    assert code == 0, said
    run = RunFolder(home / "run")
    first = json.loads(run.dataset_manifest.read_text())
    assert leave(capsys, "promote", *command, "--force", "paper account")[0] == 0
    active = json.loads((home / "live" / "active.json").read_text())

    before = run.verdict.read_bytes()
    lay_out(home / "candles", market, FIRST + 199)
    code, said = leave(capsys, "retrain", *command)
    assert code == 0
    assert "nothing new: BTC 199, ETH 199 candles since" in said
    assert run.verdict.read_bytes() == before

    lay_out(home / "candles", market, LATER)
    with run.lock():
        code, said = leave(capsys, "retrain", *command)
    assert (code, "another candletune process works in this run folder; nothing was done" in said) == (0, True)
    assert run.verdict.read_bytes() == before

    code, said = leave(capsys, "retrain", *command)
    assert code == 0, said
    assert "retraining: BTC 300, ETH 300 new candles since" in said
    assert "verdict: " in said
    second = json.loads(run.dataset_manifest.read_text())
    assert second["candles_until"] > first["candles_until"]
    assert second["train_end"] > first["train_end"], "the new candles must reach the training"
    verdict = json.loads(run.verdict.read_text())
    assert verdict["incumbent"]["adapter_sha256"] == active["active"]["adapter_sha256"]
    assert json.loads((home / "live" / "active.json").read_text()) == active, "nothing is promoted"
    (kept,) = (home / "run" / "history").iterdir()
    assert (kept / "evaluation" / "verdict.json").read_bytes() == before
    assert (kept / "report" / "index.html").is_file()

    code, said = leave(capsys, "retrain", *command)
    assert (code, "nothing new: BTC 0, ETH 0 candles" in said) == (0, True)


# --- without a model -----------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Stands in for the pipeline and notes what it was asked."""
    asked: list[dict[str, Any]] = []

    def run_pipeline(config: Any, run: Any, reporter: Any, *, without: Sequence[str] = ()) -> dict[str, Any]:
        asked.append({"config": config, "without": without})
        return {}

    monkeypatch.setattr(module, "run_pipeline", run_pipeline)
    yield asked


def trained(
    folder: Path, market: dict[str, pl.DataFrame], *, candles: int = FIRST, stages: int = len(STAGES), **manifest: Any
) -> RunFolder:
    """A run folder as after a training on the first candles, with the first so many stages done."""
    lay_out(folder / "candles", market, candles)
    run = RunFolder(folder / "run")
    until = next(iter(market.values()))["date"][FIRST - 1] + timedelta(hours=1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    entries = {
        name: entry_of(StageSummary(), finished=start + timedelta(hours=hour))
        for hour, name in enumerate(list(STAGES)[:stages])
    }
    RunManifest(stages=entries).write(run.manifest_file)
    write_json(run.dataset_manifest, MANIFEST | {"candles_until": until.isoformat(), "test_start": None, **manifest})
    return run


def settings(folder: Path, *more: str) -> Any:
    return load_config(None, [f"data.folder={folder / 'candles'}", f"run.folder={folder / 'run'}", *more])


def test_a_fixed_test_period_moves_as_far_as_the_candles_grew(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    run = trained(tmp_path, market, candles=LATER, test_start="2022-06-01T00:00:00+00:00")
    reporter = SilentReporter()
    config = settings(
        tmp_path, "dataset.test_start=2022-06-01", "replay.start=2022-06-01", "retrain.min_new_candles=300"
    )
    retrain(config, run, reporter)
    moved = pipeline[0]["config"]
    assert moved.dataset.test_start == datetime(2022, 6, 13, 12, tzinfo=UTC)  # 300 hours
    assert moved.replay.start is None
    assert any("moved from 2022-06-01 00:00 to 2022-06-13 12:00" in line for line in reporter.warnings)


def test_a_default_test_period_is_left_to_move_by_itself(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    run = trained(tmp_path, market, candles=LATER, test_start="2022-06-01T00:00:00+00:00")
    retrain(settings(tmp_path, "retrain.min_new_candles=300"), run, SilentReporter())
    assert pipeline[0]["config"].dataset.test_start is None
    assert pipeline[0]["without"] == ()


def test_a_retraining_that_was_cut_off_is_finished(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    """Killed behind its dataset: the next start goes on with that dataset, although candles came since."""
    run = trained(tmp_path, market, candles=FIRST + 5, stages=3, test_start="2022-06-13T12:00:00+00:00")
    assert not last_training(run).finished
    retrain(settings(tmp_path, "dataset.test_start=2022-06-01"), run, SilentReporter())
    assert pipeline[0]["without"] == ("dataset",)
    assert pipeline[0]["config"].dataset.test_start == datetime(2022, 6, 13, 12, tzinfo=UTC)


def test_force_retrains_on_nothing_new(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    run = trained(tmp_path, market)
    assert retrain(settings(tmp_path), run, SilentReporter()) is None
    assert pipeline == []
    assert retrain(settings(tmp_path), run, SilentReporter(), force=True) == {}
    assert len(pipeline) == 1


def test_every_pair_must_have_moved(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    run = trained(tmp_path, market, candles=LATER)
    name = next(name for name in market if name.startswith("ETH"))
    market[name].head(FIRST).write_ipc(tmp_path / "candles" / "futures" / name)
    config = settings(tmp_path, "retrain.min_new_candles=100")
    assert new_candles(config, last_training(run).until) == {"BTC": 300, "ETH": 0}
    assert retrain(config, run, SilentReporter()) is None


def test_a_dataset_of_an_older_version_counts_from_its_time(tmp_path: Path, market: dict[str, pl.DataFrame]) -> None:
    run = trained(tmp_path, market)
    write_json(run.dataset_manifest, {k: v for k, v in MANIFEST.items() if k not in ("candles_until", "test_start")})
    assert last_training(run).until == datetime(2026, 1, 1, 1, tzinfo=UTC), "its dataset's, an hour behind the base's"


@pytest.mark.parametrize("wrong", ["simulate.enabled=true", "replay.end=2022-07-01"])
def test_settings_that_leave_nothing_new(wrong: str, tmp_path: Path, market: dict[str, pl.DataFrame]) -> None:
    with pytest.raises(UsageError, match=wrong.partition("=")[0]):
        retrain(settings(tmp_path, wrong), trained(tmp_path, market), SilentReporter())


def test_changed_settings_are_named(
    tmp_path: Path, market: dict[str, pl.DataFrame], pipeline: list[dict[str, Any]]
) -> None:
    run = trained(tmp_path, market, candles=LATER)
    manifest = run.manifest()
    config = settings(tmp_path, "train.lora_rank=16", "retrain.min_new_candles=300")
    before: dict[str, JsonValue] = {"seed": 17, "train": config.train.model_dump(mode="json") | {"lora_rank": 8}}
    entry = manifest.stages["train"].model_copy(update={"settings": before})
    manifest.with_stage("train", entry).write(run.manifest_file)
    reporter = SilentReporter()
    retrain(config, run, reporter)
    assert reporter.warnings == ["settings differ from the last training's: train.lora_rank"]


def test_a_missing_candle_file_is_named(tmp_path: Path, market: dict[str, pl.DataFrame]) -> None:
    run = trained(tmp_path, market)
    for path in (tmp_path / "candles" / "futures").glob("BTC*"):
        path.unlink()
    with pytest.raises(InputError, match="no candles of BTC"):
        retrain(settings(tmp_path), run, SilentReporter())
