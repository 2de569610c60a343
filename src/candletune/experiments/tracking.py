"""Runs in MLflow, by MLflow's own API: settings as params, logged numbers as metrics, files as artifacts.

A training in a run folder is one run of MLflow, however often it is logged: what has not changed is left alone, and
what has (a verdict came, say) is logged anew before the run that it replaces goes into MLflow's trash. Another training
in the same folder is another run.
"""

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from candletune import __version__
from candletune.artifacts import StageEntry
from candletune.errors import UsageError
from candletune.experiments.compare_table import verdict_text
from candletune.experiments.entrants import Entrant
from candletune.experiments.logged import logged_numbers
from candletune.hashes import fingerprint, sha256_path
from candletune.runs import RunFolder

ID: Final = "candletune.id"
"""Tag: which training in which run folder."""
CONTENT: Final = "candletune.sha256"
"""Tag, set last: hash of all that was logged."""
MOST_METRICS, MOST_PARAMS = 1000, 100
"""What MLflow takes at a time."""
_LONGEST: Final = 6000
"""Characters of a param."""


@dataclass(frozen=True, slots=True)
class Number:
    """A metric: its key, its value, and the optimizer step that it belongs to (0: to the whole run)."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True, slots=True)
class Tracked:
    """What MLflow is told of a run.

    Attributes:
        name: as the comparison has it.
        key: see `ID`.
        params: setting in full -> value.
        numbers: metrics.
        tags: besides `ID` and `CONTENT`.
        files: path below the run folder -> where it is.
        began, ended: milliseconds since 1970.
    """

    name: str
    key: str
    params: Mapping[str, str]
    numbers: Sequence[Number]
    tags: Mapping[str, str]
    files: Mapping[str, Path]
    began: int
    ended: int

    @property
    def content(self) -> str:
        """Hash of all of it but the times."""
        numbers = [[number.key, repr(number.value), number.step] for number in self.numbers]
        files = {name: sha256_path(path) for name, path in self.files.items()}
        return fingerprint([self.name, dict(self.params), numbers, dict(self.tags), files])


def tracked(entrant: Entrant) -> Tracked:
    """Everything that is told of a run.

    Raises:
        InputError: one of its files is broken.
    """
    run = RunFolder(entrant.path)
    stages = run.manifest().stages
    training = stages.get("train")
    return Tracked(
        name=entrant.name,
        key=fingerprint([entrant.path.resolve().as_posix(), "" if training is None else training.fingerprint]),
        params={key: value[:_LONGEST] for key, value in entrant.settings.items()},
        numbers=[*_logged(run), *_summed(entrant)],
        tags={
            "candletune.version": __version__,
            "candletune.verdict": verdict_text(entrant),
            "candletune.certified": "" if entrant.certificate is None else str(entrant.certificate.passed).lower(),
            "mlflow.note.content": "" if entrant.verdict is None else entrant.verdict.reason,
        },
        files={path.relative_to(run.path).as_posix(): path for path in _files(run) if path.is_file()},
        began=min((_milliseconds(entry) - round(entry.seconds * 1000) for entry in stages.values()), default=0),
        ended=max(map(_milliseconds, stages.values()), default=0),
    )


def _files(run: RunFolder) -> tuple[Path, ...]:
    """What people look at; weights, candles and journals stay where they are."""
    return (
        run.manifest_file,
        run.dataset_manifest,
        run.card,
        run.train_metrics,
        run.train_summary,
        run.certificate,
        run.metrics,
        run.verdict,
        run.report,
    )


def _milliseconds(entry: StageEntry) -> int:
    return round(datetime.fromisoformat(entry.finished).timestamp() * 1000)


def _logged(run: RunFolder) -> list[Number]:
    return [Number(key, value, step) for step, key, value in logged_numbers(run.train_metrics)]


def _summed(entrant: Entrant) -> list[Number]:
    """What holds for the whole run."""
    found: dict[str, float | None] = {"final/eval_log_loss": entrant.eval_log_loss, "final/peak_gib": entrant.peak_gib}
    sides = {} if entrant.metrics is None else {"replay": entrant.metrics.shadow, "incumbent": entrant.metrics.active}
    for name, side in sides.items():
        for key in ("signals", "accuracy_signals", "balanced_accuracy", "log_loss", "calibration_error", "coverage"):
            found[f"{name}/{key}"] = getattr(side, key)
    found |= {f"seconds/{stage}": seconds for stage, seconds in entrant.seconds.items()}
    return [Number(key, float(value)) for key, value in found.items() if value is not None and math.isfinite(value)]


@dataclass(frozen=True, slots=True)
class Logged:
    """What became of a run.

    Attributes:
        name: the run's.
        run_id: MLflow's.
        new: whether it was logged now; it was there already otherwise.
    """

    name: str
    run_id: str
    new: bool


def log_runs(entrants: Sequence[Entrant], uri: str, experiment: str) -> list[Logged]:
    """Log runs to a tracking server or database.

    Args:
        entrants: the runs.
        uri: as MLflow takes it: `http://...`, `sqlite:///mlflow.db`.
        experiment: MLflow's experiment, made where there is none.

    Raises:
        UsageError: MLflow is not installed, or refuses or does not reach the address.
        InputError: a file of a run is broken.
    """
    # Nothing is told to MLflow's makers unasked, and a server that is not there is soon said to be so.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a result's place
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise UsageError("--mlflow: MLflow is not installed; pip install 'candletune[mlflow]'") from None
    for name in ("mlflow", "alembic"):  # which tables a new database gets is of no interest here
        logging.getLogger(name).setLevel(logging.WARNING)
    told = [tracked(entrant) for entrant in entrants]
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        return [_log(client, number, run) for run in told]
    except MlflowException as error:
        said = _without_password(f"--mlflow {uri}: {' '.join(str(error).split())}", uri)
        raise UsageError(f"{said[:400]}; check the address and MLflow's settings") from None


def _log(client: Any, experiment: str, told: Tracked) -> Logged:
    earlier = client.search_runs([experiment], filter_string=f"tags.`{ID}` = '{told.key}'")
    content = told.content
    same = next((run for run in earlier if run.data.tags.get(CONTENT) == content), None)
    kept = _logged_anew(client, experiment, told, content) if same is None else same.info.run_id
    for run in earlier:  # replaced, or left half by a process that was killed
        if run.info.run_id != kept:
            client.delete_run(run.info.run_id)
    return Logged(told.name, kept, same is None)


def _logged_anew(client: Any, experiment: str, told: Tracked, content: str) -> str:
    from mlflow.entities import Metric, Param

    tags = {**told.tags, ID: told.key}
    run_id: str = client.create_run(experiment, start_time=told.began, tags=tags, run_name=told.name).info.run_id
    params = [Param(key, value) for key, value in told.params.items()]
    for some in _pieces(params, MOST_PARAMS):
        client.log_batch(run_id, params=some)
    metrics = [Metric(number.key, number.value, told.ended, number.step) for number in told.numbers]
    for some in _pieces(metrics, MOST_METRICS):
        client.log_batch(run_id, metrics=some)
    for name, path in told.files.items():
        folder = name.rpartition("/")[0]
        client.log_artifact(run_id, str(path), folder or None)
    client.set_terminated(run_id, "FINISHED", end_time=told.ended)
    client.set_tag(run_id, CONTENT, content)
    return run_id


def _pieces(whole: Sequence[Any], most: int) -> Iterator[list[Any]]:
    for first in range(0, len(whole), most):
        yield list(whole[first : first + most])


def _without_password(text: str, uri: str) -> str:
    """A text that may name the address, also where MLflow repeats it."""
    secret, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(secret + at, "") if at else text
