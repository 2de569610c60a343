"""When a model's training ended, from its own file: a run's dataset may have been made anew since."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from candletune.artifacts import LiveState
from candletune.config import Config
from candletune.decide.adapters import adapter_facts
from candletune.decide.models import Model
from candletune.gguf.catalogue import read_catalogue
from candletune.hashes import sha256_path
from candletune.runs import RunFolder


def training_end(model: Model) -> datetime | None:
    """When the last outcome that the model learned from was known; None for the bare base, and for a file of others.

    Raises:
        InputError: the file is no GGUF, or what it says is no time.
    """
    return None if model.path is None else adapter_facts(model.path).train_end


def training_end_of(config: Config, run: RunFolder, sha256: str | None) -> datetime | None:
    """The same by the hash that a journal holds; None too when no file with that hash is on record.

    Looked for among the exports of the run, the models of `live.state`, and the configured incumbent.

    Raises:
        InputError: see `training_end`; or the state file or the catalogue is broken.
    """
    for path, recorded in _on_record(config, run):
        if sha256 is not None and recorded == sha256 and path.is_file() and sha256_path(path) == sha256:
            return adapter_facts(path).train_end
    return None


def _on_record(config: Config, run: RunFolder) -> Iterator[tuple[Path, str | None]]:
    """Files and the hashes they had when they were recorded."""
    for entry in read_catalogue(run.gguf):
        yield run.gguf / entry.file, entry.sha256
    state = LiveState.read_if_there(config.live.state)
    if state is not None:
        for model in (state.active, *state.previous):
            if model.path is not None:
                yield config.live.state.parent / model.path, model.adapter_sha256
    for path in (run.adapter_gguf, run.merged_gguf, config.incumbent.adapter):
        if path is not None and path.is_file():
            yield path, sha256_path(path)
