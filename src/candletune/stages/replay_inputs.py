"""What a replay is made from: its rows, its files, and whether a journal on disk is of this very replay."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from candletune.artifacts import DatasetManifest, ExportSummary, TrainingEnds
from candletune.config import SERVER_KEYS, Config
from candletune.dataset.unseen import candle_files, held_out_rows
from candletune.decide import Model, training_end
from candletune.engines import base_gguf
from candletune.files import move, read_json, write_json
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import read_frame
from candletune.live.models import candidate_model, compared_incumbent
from candletune.runs import RunFolder


def unseen_rows(config: Config, run: RunFolder, candidate: Model, incumbent: Model) -> tuple[pl.DataFrame, bool]:
    """Decision rows that neither model was trained on, and whether some were (only with `replay.force`).

    What a model was trained on its own file says. Only where the candidate's does not, the run's dataset speaks for it.

    Raises:
        InputError: the range reaches into what one of them was trained on, or holds nothing.
    """
    manifest = DatasetManifest.read(run.dataset_manifest)
    own = training_end(candidate)
    ends = {"the": manifest.train_end} if own is None else {f"the candidate's ({candidate.name})": own}
    if (end := training_end(incumbent)) is not None:
        ends[f"the incumbent's ({incumbent.name})"] = end
    whose = max(ends, key=lambda name: ends[name])
    return held_out_rows(config, ends[whose], manifest.test_start, whose=whose)


def training_ends(candidate: Model, incumbent: Model) -> TrainingEnds:
    """What both files say."""
    ends = [training_end(model) for model in (candidate, incumbent)]
    texts = [None if end is None else end.isoformat() for end in ends]
    return TrainingEnds(candidate=texts[0], incumbent=texts[1])


def replay_fingerprint(config: Config, run: RunFolder, *, torch: bool) -> str:
    """What a journal's rows depend on; another fingerprint starts a new journal.

    Args:
        config: the whole configuration.
        run: names the files.
        torch: whether PyTorch decides, whose rounding is another.
    """
    files = {name: sha256_path(path) for name, path in replay_inputs(config, run).items()}
    settings = {key: getattr(config, key).model_dump(mode="json") for key in ("replay", "engine", "live", "labels")}
    del settings["replay"]["engine"], settings["replay"]["ray"]  # what was chosen counts, not who works on it
    if torch:
        settings["replay"]["torch"] = True
    settings["engine"] = {key: value for key, value in settings["engine"].items() if key not in SERVER_KEYS}
    if config.engine.url:  # a journal is not begun in this process and ended on servers, whose rounding is another
        settings["engine"]["servers"] = True
    return fingerprint([files, settings, str(config.dataset.test_start), config.seed])


def resume_journal(path: Path, marker: Path, digest: str) -> int:
    """Rows of this very replay already on disk; a journal of another one is set aside, never overwritten."""
    if path.exists() and marker.exists() and read_json(marker)["fingerprint"] == digest:
        return len(read_frame(path))
    if path.exists():
        move(path, path.with_name(f"{path.stem}.{sha256_path(path)[:8]}{path.suffix}"))
    write_json(marker, {"version": 1, "fingerprint": digest})
    return 0


def base_sha256(config: Config, run: RunFolder) -> str:
    """Of the base GGUF."""
    return sha256_path(base_gguf(config, run))


def replay_inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    """The stage's inputs by name."""
    candidate = run.exported(run.summary(ExportSummary).merged)
    inputs = {
        "export": candidate,
        "base.gguf": base_gguf(config, run),
        "manifest": run.dataset_manifest,
        **candle_files(config),
    }
    optional = {
        "incumbent": compared_incumbent(config, candidate_model(run))[0].path if candidate.is_file() else None,
        "data.fear_greed": config.data.fear_greed,
        "data.headlines": config.data.headlines,
        "prompt.template": config.prompt.template,
    }
    return inputs | {name: path for name, path in optional.items() if path is not None}
