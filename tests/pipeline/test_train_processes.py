"""`candletune train` in several gloo processes, killed and taken up by another number of them, is one process's.

`bench/train_processes.py` has more of them, and the figures.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from candletune.config import TrainConfig, load_config
from candletune.console import SilentReporter
from candletune.errors import InputError
from candletune.runs import RunFolder
from candletune.stages.base import STAGE as BASE
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.runner import Stage, run_stage
from candletune.stages.train import STAGE as TRAIN
from candletune.training.checkpoints import recipe_fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.llamacpp]
SETTINGS = """
[simulate]
enabled = true
years = 0.6

[dataset]
per_class = 12
test_start = 2022-06-01
natural_eval = 12

[train]
backend = "fast"
device = "cpu"
max_steps = 4
policy_steps = 0
effective_batch = 4
batch_size = 2
save_steps = 1
eval_steps = 0
learning_rate = 1e-3
optimizer = "adamw_torch"
vram_gib = 1.0
"""


@pytest.fixture(scope="module")
def made(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with configuration, base and dataset, ready to be trained on."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "candletune.toml").write_text(f'[run]\nfolder = "run"\n[base]\nmodel = "{random_base}"\n{SETTINGS}')
    stages(folder, BASE, DATASET)
    return folder


def stages(folder: Path, *wanted: Stage, gpus: int = 1) -> None:
    """Run stages in this process."""
    config = load_config(folder / "candletune.toml", [f"train.gpus={gpus}"])
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        for stage in wanted:
            run_stage(stage, config, run, SilentReporter())


def losses(folder: Path) -> list[float]:
    path = folder / "run" / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row["loss"] for row in rows if "loss" in row]


def second_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """The second process of a training."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == "1":
            return child
    raise AssertionError("there is none")


def test_killed_under_torchrun_and_resumed_by_one_process_it_is_one_processs(made: Path, tmp_path: Path) -> None:
    one, several = (shutil.copytree(made, tmp_path / name) for name in ("one", "several"))
    stages(one, TRAIN)

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "candletune", "train", "--no-preflight", "--config", str(several / "candletune.toml")]
    said = tmp_path / "said.txt"
    with said.open("wb") as stream:
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=stream)
    while len(losses(several)) < 2:
        assert process.poll() is None, said.read_text()[-2000:]
        time.sleep(0.05)
    second_of(process).kill()
    assert process.wait(60)  # within a minute
    assert "Signal 9 (SIGKILL) received" in said.read_text()  # torchrun names the rank that died first
    assert list((several / "run" / "train").rglob("checkpoint-*"))
    behind = losses(several)

    stages(several, TRAIN)
    assert losses(several)[0] == behind[0]  # resumed, not begun again
    assert losses(several) == pytest.approx(losses(one), rel=1e-5)
    files = [folder / "run" / "adapter" for folder in (one, several)]
    assert (files[0] / "adapter_config.json").read_bytes() == (files[1] / "adapter_config.json").read_bytes()
    wanted, found = (load_file(path / "adapter_model.safetensors") for path in files)
    for name, matrix in wanted.items():
        assert torch.allclose(found[name], matrix, rtol=1e-4, atol=1e-5), name


def test_what_the_first_process_refuses_ends_the_training_with_its_words(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "refused")
    (folder / "run" / "dataset" / "lora_training.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"lora_training\.jsonl"):
        stages(folder, TRAIN, gpus=2)


def test_any_number_of_processes_goes_on_from_the_same_checkpoints() -> None:
    marks = {recipe_fingerprint(TrainConfig(gpus=gpus), "dataset", "base", 1, {}) for gpus in range(3)}
    assert len(marks) == 1
