"""Trainings of run folders into MLflow, beside whose pages docs/report.md holds candletune's.

    python bench/mlflow_runs.py STORE.db NAME=RUN...    in an environment with mlflow
    mlflow ui --backend-store-uri sqlite:///STORE.db

Each run's `train/metrics.jsonl` becomes a run of MLflow's, step by step.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def log(store: Path, name: str, run: Path) -> None:
    """One training: every number of every step."""
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{store.resolve()}")
    mlflow.set_experiment("candletune")
    with mlflow.start_run(run_name=name):
        for line in (run / "train" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
            mlflow.log_metrics(numbers, step=int(numbers.pop("step")))


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        given, _, folder = argument.partition("=")
        log(Path(sys.argv[1]), given, Path(folder))
