"""Who acts: one file says so, and only `promote` and `rollback` change it, atomically, with a history.

Before the first promotion the configured incumbent acts (`incumbent.adapter`, or the bare base). Both models of a
promotion are copied beside the state file under their hashes, so training again in the same run folder can't change
who acts, and a rollback finds what it goes back to.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from candletune.artifacts import JudgedModel, LiveState, ServedModel, StateChange
from candletune.config import Config
from candletune.decide import Model, Predictor
from candletune.errors import InputError, UsageError
from candletune.files import copy, make_folder
from candletune.gguf.catalogue import versioned_name
from candletune.hashes import sha256_path
from candletune.live.models import KEPT, candidate_model, configured_incumbent, model_on_record, read_state
from candletune.live.reference import keep_reference
from candletune.live.verdicts import check_verdict
from candletune.runs import RunFolder


def history(config: Config) -> tuple[StateChange, ...]:
    """Every promotion and rollback, oldest first."""
    state = read_state(config)
    return () if state is None else state.history


def promote(config: Config, *, force: str | None = None) -> Model:
    """Make what the run exported last active, an adapter or a merged model.

    Args:
        force: a reason to promote without a verdict of `promote` for this very file; kept in the history.

    Raises:
        CheckFailed: no verdict of `promote` under the full criteria is about this candidate over this incumbent.
        InputError: the candidate or the verdict is missing, or what would act is not that very file or does not load.
        UsageError: the candidate acts already, or the forced reason is empty.
    """
    path = config.live.state
    if force is not None and not force.strip():
        raise UsageError("--force: expected a reason, for example --force 'paper account only'")
    run = RunFolder(config.run.folder)
    candidate = candidate_model(run)
    with _locked(path):
        state = read_state(config) or LiveState(active=_record(path, configured_incumbent(config)))
        active = model_on_record(path, state.active)
        if candidate.sha256 == active.sha256:
            raise UsageError(f"{candidate.name}: acts already ({active.path})")
        reason = check_verdict(config, run, candidate, active) if force is None else force.strip()

        def usable(copied: Path) -> None:
            check_loads(config, run, candidate, copied)
            if not path.exists():
                state.write(path)  # before any copy has its name: copies without a state file mean that it was lost

        kept = _keep(path, candidate, usable)
        acting = _record(path, kept)
        replaced = _record(path, _keep(path, active), since=state.active.since)
        keep_reference(config, run, kept, active)
        change = _change("promote", replaced, acting, reason, forced=force is not None)
        state.model_copy(
            update={
                "active": acting,
                "previous": (*state.previous, replaced),
                "history": (*state.history, change),
            }
        ).write(path)
    return kept


def check_loads(config: Config, run: RunFolder, candidate: Model, copied: Path) -> None:
    """Load the candidate's copy, which is what will act, as `signal` would, and free it again.

    Raises:
        InputError: it is no usable GGUF, of another base or template, or there is no base to load it over.
    """
    predictor = Predictor(config, run)
    try:
        predictor.load(replace(candidate, path=copied))
    except InputError as error:  # the copy's name of the moment says nothing
        text = str(error).replace(str(copied), str(candidate.path))
        raise InputError(text.replace(copied.stem, versioned_name(candidate.path or copied))) from None
    finally:
        predictor.close()


def rollback(config: Config, *, reason: str = "", only: str | None = None) -> Model:
    """Go back to the model that acted before the last promotion.

    Args:
        config: names the state file.
        reason: kept in the history.
        only: hash of the model that must act now; none: whichever does.

    Raises:
        UsageError: nothing was promoted, or another model than `only` acts.
        InputError: the earlier model is missing or was changed.
    """
    path = config.live.state
    with _locked(path):
        state = read_state(config)
        if state is None or not state.previous:
            raise UsageError(f"{path}: nothing to roll back to; no promotion is on record")
        if only is not None and state.active.adapter_sha256 != only:
            raise UsageError(f"{path}: {state.active.name} acts by now; nothing was rolled back")
        earlier = model_on_record(path, state.previous[-1])
        change = _change("rollback", state.active, state.previous[-1], reason, forced=False)
        state.model_copy(
            update={
                "active": state.previous[-1],
                "previous": state.previous[:-1],
                "history": (*state.history, change),
            }
        ).write(path)
    return earlier


def _keep(state: Path, model: Model, check: Callable[[Path], None] = lambda _: None) -> Model:
    """The model as a copy beside the state file, under its versioned name; the bare base has none.

    Args:
        state: the state file.
        model: to keep.
        check: looks at the copy before it has its name; what it raises leaves nothing behind.

    Raises:
        InputError: the file changed while it was copied.
    """
    if model.path is None or model.sha256 is None:
        return model
    target = state.parent / KEPT / f"{versioned_name(model.path)}.gguf"

    def look(copied: Path) -> None:
        if sha256_path(copied) != model.sha256:
            raise InputError(f"{model.path}: was changed while it was copied; try again")
        check(copied)

    if target.is_file() and sha256_path(target) == model.sha256:
        check(target)
    else:
        copy(model.path, target, check=look)
    return replace(model, path=target)


def _record(state: Path, model: Model, *, since: str = "") -> ServedModel:
    path = model.path
    if path is not None:
        path = path.resolve()
        folder = state.parent.resolve()
        path = path.relative_to(folder) if path.is_relative_to(folder) else path
    return ServedModel(
        name=model.name,
        kind=model.kind,
        path=None if path is None else path.as_posix(),
        adapter_sha256=model.sha256,
        since=since or _now(),
    )


def _change(
    what: Literal["promote", "rollback"], before: ServedModel, after: ServedModel, reason: str, *, forced: bool
) -> StateChange:
    old, new = (JudgedModel(name=model.name, adapter_sha256=model.adapter_sha256) for model in (before, after))
    return StateChange(at=_now(), what=what, before=old, after=new, reason=reason, forced=forced)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    make_folder(path.parent)
    try:
        with FileLock(path.with_name(path.name + ".lock"), timeout=10):
            yield
    except Timeout:
        raise UsageError(f"{path}: another promote or rollback is at work; try again") from None
