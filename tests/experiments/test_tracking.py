"""Runs in a database of MLflow: what is logged, once, and again when it changed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candletune.artifacts import Verdict
from candletune.cli import main
from candletune.errors import InputError, UsageError
from candletune.experiments import tracking
from candletune.experiments.entrants import read_entrants
from candletune.experiments.logged import logged_numbers
from candletune.experiments.tracking import log_runs, tracked
from candletune.runs import RunFolder
from simulated_run import log_steps, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = make_run(tmp_path_factory.mktemp("tracked"), "evaluate.baselines=false", rows=200)[1]
    made.train_metrics.parent.mkdir()
    log_steps(made, 1, 1200)
    return made


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts there
    yield f"sqlite:///{tmp_path / 'mlflow.db'}"


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(uri: str) -> list[Any]:
    client = client_of(uri)
    return list(client.search_runs([client.get_experiment_by_name("candletune").experiment_id]))


def test_settings_numbers_and_files_are_logged(uri: str, run: RunFolder) -> None:
    (logged,) = log_runs(read_entrants([run.path]), uri, "candletune")
    (found,) = runs_of(uri)
    assert logged.new and found.info.run_id == logged.run_id
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.path.name)
    assert found.data.params["dataset.per_class"] == "60" and found.data.params["labels.horizon"] == "12"
    assert not [key for key in found.data.params if key.startswith(tracking_left_out())]
    metrics = json.loads(run.metrics.read_text())
    assert found.data.metrics["replay/accuracy_signals"] == pytest.approx(metrics["shadow"]["accuracy_signals"])
    assert found.data.metrics["seconds/evaluate"] >= 0
    client = client_of(uri)
    history = client.get_metric_history(logged.run_id, "loss")
    assert {entry.step: entry.value for entry in history} == {step: 2 / step for step in range(1, 1201)}
    assert len(client.get_metric_history(logged.run_id, "eval_balanced_accuracy")) == 60
    assert found.data.tags["candletune.verdict"] == Verdict.read(run.verdict).verdict
    assert {item.path for item in client.list_artifacts(logged.run_id, "evaluation")} == {
        "evaluation/metrics.json",
        "evaluation/verdict.json",
    }
    copied = Path(client.download_artifacts(logged.run_id, "manifest.json"))
    assert copied.read_bytes() == run.manifest_file.read_bytes()


def tracking_left_out() -> tuple[str, ...]:
    """Where things lie and who is told, which stays here."""
    return ("run.", "live.", "notify.", "engine.url", "data.folder")


def test_what_was_logged_is_left_alone_and_what_changed_is_logged_anew(uri: str, run: RunFolder) -> None:
    (first,) = log_runs(read_entrants([run.path]), uri, "candletune")
    (again,) = log_runs(read_entrants([run.path]), uri, "candletune")
    assert (again.run_id, again.new) == (first.run_id, False)
    kept = run.train_metrics.read_bytes()
    log_steps(run, 1201, 1201)
    (more,) = log_runs(read_entrants([run.path]), uri, "candletune")
    run.train_metrics.write_bytes(kept)
    assert more.new and more.run_id != first.run_id
    assert [found.info.run_id for found in runs_of(uri)] == [more.run_id]
    assert client_of(uri).get_run(first.run_id).info.lifecycle_stage == "deleted"


def test_what_a_killed_process_left_half_is_replaced(uri: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", killed)
        with pytest.raises(KeyboardInterrupt):
            log_runs(read_entrants([run.path]), uri, "candletune")
    (half,) = runs_of(uri)
    (whole,) = log_runs(read_entrants([run.path]), uri, "candletune")
    assert whole.new and [found.info.run_id for found in runs_of(uri)] == [whole.run_id] != [half.info.run_id]


def test_the_command(uri: str, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for state in ("logged", "up to date"):
        with pytest.raises(SystemExit) as left:
            main(["compare", str(run.path), "--mlflow", uri, "--experiment", "candletune"])
        said = capsys.readouterr()
        assert left.value.code == 0, said.err
        assert f"mlflow: {run.path.name}: {state} (" in said.err


def test_an_address_that_does_not_answer_is_told_without_its_password(uri: str, run: RunFolder) -> None:
    with pytest.raises(UsageError, match=r"^--mlflow http://127\.0\.0\.1:9: ") as caught:
        log_runs(read_entrants([run.path]), "http://me:hunter2@127.0.0.1:9", "candletune")
    assert "hunter2" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"candletune\[mlflow\]"):
        log_runs(read_entrants([run.path]), "sqlite:///mlflow.db", "candletune")


def test_another_training_or_folder_is_another_run(run: RunFolder, tmp_path: Path) -> None:
    entrant = read_entrants([run.path])[0]
    before = tracked(entrant).key
    manifest = run.manifest_file.read_bytes()
    entry = next(iter(run.manifest().stages.values()))
    for digest in ("1", "2"):
        run.manifest().with_stage("train", entry.model_copy(update={"fingerprint": digest})).write(run.manifest_file)
        key = tracked(entrant).key
        assert key != before
        before = key
    run.manifest_file.write_bytes(manifest)
    shutil.copytree(run.path, tmp_path / "copy")
    assert tracked(read_entrants([tmp_path / "copy"])[0]).key != tracked(entrant).key


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    (path := tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": NaN, "rate": 1e-4, "by": {"BUY": 1.0}}\n{"step": 2, "loss": 3}\n{"step": 3, "lo'
    )
    assert logged_numbers(path) == [(1, "rate", 1e-4), (2, "loss", 3.0)]
    path.write_text("not JSON\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl:1: not a line of a training"):
        logged_numbers(path)
    assert tracking.MOST_METRICS == 1000
