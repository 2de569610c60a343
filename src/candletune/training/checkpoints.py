"""Checkpoints: the newest by number, and only those of the same data, base, seed and settings."""

import re
from pathlib import Path

from candletune.config import TrainConfig
from candletune.files import make_folder, read_json, remove_folder, write_json
from candletune.hashes import fingerprint, sha256_path
from candletune.training.metrics import trim_metrics

TAUGHT_LATER = {"call_share", "policy_steps"}
"""Settings that begin to matter behind the last checkpoint."""
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, by number (950 is before 1000); unfinished ones do not count."""
    steps = [
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _CHECKPOINT.match(path.name)) and (path / "trainer_state.json").is_file()
    ]
    return max(steps)[1] if steps else None


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def prepare_checkpoints(folder: Path, fingerprint: str) -> Path | None:
    """The checkpoint to resume from; checkpoints of another fingerprint are removed."""
    marker = folder / "candletune.json"
    if folder.exists() and (not marker.exists() or read_json(marker).get("fingerprint") != fingerprint):
        remove_folder(folder)
    make_folder(folder)
    write_json(marker, {"fingerprint": fingerprint})
    return latest_checkpoint(folder)


def resumed(folder: Path, metrics: Path, fingerprint: str) -> Path | None:
    """The checkpoint to resume from, with the metrics cut back to it; see `prepare_checkpoints`."""
    checkpoint = prepare_checkpoints(folder, fingerprint)
    trim_metrics(metrics, None if checkpoint is None else step_of(checkpoint))
    return checkpoint


def recipe_fingerprint(
    config: TrainConfig, dataset_sha256: str, base_sha256: str, seed: int, chat: dict[str, str]
) -> str:
    """What a checkpoint belongs to; examples in another chat are other examples.

    However many processes share the steps, the training is the same: `train.gpus` counts as its default.
    """
    settings = config.model_dump(mode="json", exclude={*TAUGHT_LATER, "init_adapter"}) | {"gpus": 0}
    facts = [settings, dataset_sha256, base_sha256, seed, chat]
    if config.init_adapter is not None:
        facts.append(sha256_path(config.init_adapter))
    return fingerprint(facts)
