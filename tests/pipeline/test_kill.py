"""kill -9 in every stage, and the run ends as an undisturbed one does."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from candletune.stages import STAGES
from random_weights import RANDOM_WEIGHTS

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
max_steps = 6
policy_steps = 1
effective_batch = 8
save_steps = 2
eval_steps = 0
learning_rate = 5e-3
optimizer = "adamw_8bit"

[evaluate]
resamples = 200
"""


def configure(folder: Path, base: Path) -> Path:
    folder.mkdir()
    config = folder / "candletune.toml"
    config.write_text(f'[run]\nfolder = "{folder / "run"}"\n[base]\nmodel = "{base}"\n{SETTINGS}{RANDOM_WEIGHTS}')
    return config


def start(config: Path) -> "subprocess.Popen[bytes]":
    # What preflight finds is tested elsewhere; its timed steps would be most of ten starts.
    command = [sys.executable, "-m", "candletune", "run", "--no-preflight", "--config", str(config)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(run: Path) -> list[str]:
    manifest = run / "manifest.json"
    return list(json.loads(manifest.read_text())["stages"]) if manifest.exists() else []


def results(run: Path) -> dict[str, Any]:
    """What must be the same: bytes, the verdict without its time, the journal without its latencies."""
    same: dict[str, Any] = {
        name: (run / name).read_bytes()
        for name in (
            "dataset/lora_training.jsonl",
            "dataset/lora_training.meta.parquet",
            "adapter/adapter_model.safetensors",
            "adapter/adapter_config.json",
            "gguf/custom-trading-lora.gguf",
            "gguf/base.gguf",
            "verify/verify.json",
        )
    }
    verdict = json.loads((run / "evaluation" / "verdict.json").read_text())
    assert verdict.pop("decided")
    rows = [json.loads(line) for line in (run / "replay" / "ab_test_log.jsonl").read_text().splitlines()]
    for row in rows:
        del row["crc32"]  # of the latencies too
        for side in ("active", "shadow"):
            del row[side]["latency_ms"]
    losses = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    return same | {"verdict": verdict, "journal": rows, "losses": [row["loss"] for row in losses if "loss" in row]}


def test_killed_in_every_stage_ends_as_undisturbed(random_base: Path, tmp_path: Path) -> None:
    calm, rough = configure(tmp_path / "calm", random_base), configure(tmp_path / "rough", random_base)
    process = start(calm)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said.decode()[-2000:]

    run = tmp_path / "rough" / "run"
    killed = 0
    for stage in range(len(STAGES)):
        process = start(rough)
        while process.poll() is None and len(finished(run)) < stage:
            time.sleep(0.01)
        time.sleep(0.25)  # into the next stage's work
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= len(STAGES) - 2, "the stages were too fast to be hit"
    process = start(rough)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said.decode()[-2000:]

    undisturbed, resumed = results(tmp_path / "calm" / "run"), results(run)
    for name, value in undisturbed.items():
        assert resumed[name] == value, name
    left = [path.name for path in run.rglob("*") if path.name.endswith(".staged")]
    assert left == [], "half-written files are left"

    process = start(rough)
    _, said = process.communicate(timeout=900)
    assert said.decode().count("[up to date]") == len(STAGES), "a finished run must be skipped whole"
