"""Which models the live side knows: the incumbent, the candidate, and every export by its versioned name."""

from collections.abc import Iterator
from pathlib import Path

from candletune.artifacts import ExportSummary, LiveState, ServedModel
from candletune.config import Config
from candletune.decide import Model, ModelKind, bare_base, model_at
from candletune.errors import InputError
from candletune.gguf.catalogue import read_catalogue, versioned_name
from candletune.hashes import sha256_path
from candletune.runs import RunFolder

KEPT = "adapters"
"""The folder beside the state file in which promoted models are kept."""


def configured_incumbent(config: Config) -> Model:
    """`incumbent.adapter`, or the bare base when none is configured."""
    table = config.incumbent
    return bare_base(table.name) if table.adapter is None else model_at(table.adapter, table.name)


def candidate_model(run: RunFolder) -> Model:
    """What the run exported last: the adapter or the merged model, under its versioned name.

    Raises:
        InputError: nothing was exported, or the file is not the one that was.
    """
    exported = run.summary_if_done(ExportSummary)
    if exported is None:  # a GGUF that was put there by hand
        merged = run.merged_gguf.is_file() and not run.adapter_gguf.is_file()
        expected = None
    else:
        merged, expected = exported.merged, exported.sha256
    path = run.exported(merged)
    if not path.is_file():
        raise InputError(f"{path}: no such model; run `candletune export` first")
    if expected is not None and sha256_path(path) != expected:
        raise InputError(f"{path}: not the file that `candletune export` wrote (hash differs); export again")
    return model_at(path, versioned_name(path), kind="merged" if merged else "adapter")


def shadowed_model(config: Config, run: RunFolder) -> Model:
    """Who answers in the shadow: the candidate; once that one acts itself, the model that it replaced.

    Raises:
        InputError: see `candidate_model`; or the replaced model's file is missing.
    """
    candidate, state = candidate_model(run), read_state(config)
    if state is None or not state.previous or candidate.sha256 != state.active.adapter_sha256:
        return candidate
    return model_on_record(config.live.state, state.previous[-1])


def active_model(config: Config) -> Model:
    """The model that acts now, its file checked against the recorded hash.

    Raises:
        InputError: the state file is broken, or missing though models were promoted; or the model's file is missing or
            was changed.
    """
    state = read_state(config)
    return configured_incumbent(config) if state is None else model_on_record(config.live.state, state.active)


def compared_incumbent(config: Config, candidate: Model) -> tuple[Model, str]:
    """The model a candidate is compared with, and where it is named.

    It is the one that acts; where the candidate itself acts already, the one that it replaced, so that looking again
    after a promotion compares the same two models.
    """
    state = read_state(config)
    if state is None:
        named = "no incumbent.adapter" if config.incumbent.adapter is None else "incumbent.adapter"
        return configured_incumbent(config), named
    if state.active.adapter_sha256 == candidate.sha256 and state.previous:
        return model_on_record(config.live.state, state.previous[-1]), "replaced by this candidate, live.state"
    return model_on_record(config.live.state, state.active), "active in live.state"


def named_model(config: Config, name: str) -> Model | None:
    """A model by its versioned name or its file's: one that this run exported, or that was promoted here; else None."""
    for path, kind in _files_on_record(config):
        if path.is_file() and name in (path.stem, versioned_name(path)):
            return model_at(path, versioned_name(path), kind=kind)
    return None


def _files_on_record(config: Config) -> Iterator[tuple[Path, ModelKind]]:
    folder = RunFolder(config.run.folder).gguf
    for entry in reversed(read_catalogue(folder)):
        yield folder / entry.file, entry.kind
    yield RunFolder(config.run.folder).adapter_gguf, "adapter"  # put there by hand, it is in no catalogue
    state = read_state(config)
    if state is not None:
        for model in (state.active, *reversed(state.previous)):
            if model.path is not None:
                yield config.live.state.parent / model.path, model.kind


def read_state(config: Config) -> LiveState | None:
    """The content of `live.state`; None before the first promotion.

    Raises:
        InputError: it is broken; or it is missing, but the models that it promoted are there.
    """
    path = config.live.state
    try:
        there = path.exists()
    except OSError as error:  # a folder that may not be entered
        raise InputError(
            f"{path}: cannot be read ({error.strerror}), so who acts is unknown; check its folder"
        ) from None
    if there:
        return LiveState.read(path)
    if kept := _kept_without_state(path):
        raise InputError(
            f"{path}: missing, but {kept[0].parent} holds models that were promoted ({kept[0].name}), so who acts is "
            "unknown; put the file back, or move that folder away to act with the incumbent"
        )
    return None


def _kept_without_state(state: Path) -> list[Path]:
    """Promoted models that no other state file in the folder names."""
    kept = sorted((state.parent / KEPT).glob("*.gguf"))
    if not kept:
        return []
    others = "".join(path.read_text(encoding="utf-8", errors="replace") for path in state.parent.glob("*.json"))
    return [path for path in kept if path.name not in others]


def model_on_record(state: Path, record: ServedModel) -> Model:
    """A model that the state file names.

    Raises:
        InputError: its file is missing, or is not the recorded one.
    """
    if record.path is None:
        return bare_base(record.name)
    path = state.parent / record.path
    if not path.is_file():
        raise InputError(f"{path}: the model named in {state} is missing; put it back or roll back")
    if sha256_path(path) != record.adapter_sha256:
        raise InputError(f"{path}: not the file {state} recorded (hash differs); put it back or roll back")
    return Model(record.name, path, record.adapter_sha256, record.kind)
