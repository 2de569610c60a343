"""`candletune train` in several gloo processes, killed and taken up by another number of them, is one process's."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.runs import RunFolder
from candletune.stages.base import STAGE as BASE
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

pytestmark = [pytest.mark.slow, pytest.mark.llamacpp]
SETTINGS = """
[simulate]
enabled = true
years = 0.6

[dataset]
per_class = 40
test_start = 2022-06-01
natural_eval = 60

[train]
backend = "fast"
device = "cpu"
max_steps = 6
policy_steps = 1
effective_batch = 8
batch_size = 2
save_steps = 2
eval_steps = 0
learning_rate = 1e-3
optimizer = "adamw_torch"
vram_gib = 1.0
"""
A_MINUTE = 60.0


@pytest.fixture(scope="module")
def made(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with base and dataset, ready to be trained on."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "candletune.toml").write_text(f'[run]\nfolder = "run"\n[base]\nmodel = "{random_base}"\n{SETTINGS}')
    config = load_config(folder / "candletune.toml")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        for stage in (BASE, DATASET):
            run_stage(stage, config, run, SilentReporter())
    return folder


def train(folder: Path, *launcher: str, gpus: int = 1) -> "subprocess.Popen[str]":
    command = [*(launcher or (sys.executable,)), "-m", "candletune", "train", "--no-preflight"]
    command += ["--config", str(folder / "candletune.toml"), "--set", f"train.gpus={gpus}"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def losses(folder: Path) -> list[float]:
    path = folder / "run" / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row["loss"] for row in rows if "loss" in row]


def second_of(process: "subprocess.Popen[str]") -> psutil.Process:
    """The second process of a training."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == "1":
            return child
    raise AssertionError("there is none")


def test_killed_and_resumed_by_another_number_of_processes_it_is_one_processs(made: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    one, several = (shutil.copytree(made, tmp_path / name) for name in ("one", "several"))
    process = train(one)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-2000:]

    process = train(several, gpus=2)
    while len(losses(several)) < 3:
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    second_of(process).kill()
    began = time.monotonic()
    _, said = process.communicate(timeout=600)
    assert time.monotonic() - began < A_MINUTE
    assert process.returncode == 3, said[-2000:]
    assert "error: training: process 1 of 2 died (SIGKILL); run the same command again" in said
    assert list((several / "run" / "train").rglob("checkpoint-*"))

    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3")
    process = train(several, *torchrun, gpus=2)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-2000:]
    assert "resuming from checkpoint-" in said

    assert losses(several) == pytest.approx(losses(one), rel=1e-5)
    files = [folder / "run" / "adapter" for folder in (one, several)]
    assert (files[0] / "adapter_config.json").read_bytes() == (files[1] / "adapter_config.json").read_bytes()
    wanted, found = (load_file(path / "adapter_model.safetensors") for path in files)
    for name, matrix in wanted.items():
        assert torch.allclose(found[name], matrix, rtol=1e-4, atol=1e-5), name
