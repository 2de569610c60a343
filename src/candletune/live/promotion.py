"""Which adapter acts. One file says so; only `promote` and `rollback` change it, atomically, with a history.

Before the first promotion the configured incumbent acts (`incumbent.adapter`, or the bare base). A promoted adapter is
copied beside the state file under its hash, so training again in the same run folder can't change who acts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from candletune.config import Config
from candletune.errors import CheckFailed, InputError, UsageError
from candletune.files import copy, make_folder, read_json, write_json
from candletune.hashes import sha256_path
from candletune.runs import RunFolder

VERSION = 1
BARE_BASE = "bare base"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA GGUF that can be asked, or the bare base.

    Attributes:
        name: as answers and reports show it.
        path: the GGUF; None for the bare base.
        sha256: its hash; None for the bare base.
    """

    name: str
    path: Path | None = None
    sha256: str | None = None


def adapter_at(path: Path, name: str = "") -> Adapter:
    """The adapter in a file.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such adapter; give the path of a LoRA GGUF")
    return Adapter(name or path.stem, path, sha256_path(path))


def configured_incumbent(config: Config) -> Adapter:
    """`incumbent.adapter`, or the bare base when none is configured."""
    table = config.incumbent
    return Adapter(BARE_BASE) if table.adapter is None else adapter_at(table.adapter, table.name)


def candidate_adapter(config: Config) -> Adapter:
    """The run's exported adapter.

    Raises:
        InputError: it has not been exported.
    """
    path = RunFolder(config.run.folder).adapter_gguf
    if not path.is_file():
        raise InputError(f"{path}: no such adapter; run `candletune export` first")
    return adapter_at(path)


def active_adapter(config: Config) -> Adapter:
    """The adapter that acts now, its file checked against the recorded hash.

    Raises:
        InputError: the state file is broken, or the adapter is missing or was changed.
    """
    path = config.live.state
    if not path.exists():
        return configured_incumbent(config)
    return _from_record(path, _read(path)["active"])


def history(config: Config) -> list[dict[str, Any]]:
    """Every promotion and rollback, oldest first."""
    path = config.live.state
    found: list[dict[str, Any]] = _read(path)["history"] if path.exists() else []
    return found


def promote(config: Config, *, force: str | None = None) -> Adapter:
    """Make the run's candidate active.

    Args:
        force: a reason to promote without a verdict of `promote` for this very adapter; kept in the history.

    Raises:
        CheckFailed: the verdict is not `promote`, or it is about another adapter or another incumbent.
        InputError: the candidate or the verdict is missing.
        UsageError: the candidate acts already, or the forced reason is empty.
    """
    candidate = candidate_adapter(config)
    with _locked(config.live.state):
        active = active_adapter(config)
        if candidate.sha256 == active.sha256:
            raise UsageError(f"{candidate.name}: acts already ({active.path})")
        if force is None:
            reason = _verdict_reason(config, candidate, active)
        elif force.strip():
            reason = force.strip()
        else:
            raise UsageError("--force: expected a reason, for example --force 'paper account only'")
        kept = _keep(config.live.state, candidate)
        state = _state(config)
        state["previous"].append(state["active"])
        state["active"] = _record(config.live.state, kept)
        _write(config.live.state, state, "promote", active, kept, reason, forced=force is not None)
    return kept


def rollback(config: Config, *, reason: str = "") -> Adapter:
    """Go back to the adapter that acted before the last promotion.

    Raises:
        UsageError: nothing was promoted.
        InputError: the earlier adapter is missing or was changed.
    """
    path = config.live.state
    with _locked(path):
        state = _state(config)
        if not state["previous"]:
            raise UsageError(f"{path}: nothing to roll back to; no promotion is on record")
        earlier = _from_record(path, state["previous"][-1])
        before = Adapter(state["active"]["name"], None, state["active"]["adapter_sha256"])
        state["active"] = state["previous"].pop()
        _write(path, state, "rollback", before, earlier, reason, forced=False)
    return earlier


def _verdict_reason(config: Config, candidate: Adapter, active: Adapter) -> str:
    path = RunFolder(config.run.folder).verdict
    if not path.is_file():
        raise InputError(f"{path}: no verdict; run `candletune evaluate` first, or give a reason with --force")
    verdict = read_json(path)
    remedy = "; --force REASON promotes all the same"
    if verdict.get("verdict") != "promote":
        raise CheckFailed(f"{path}: the verdict is {verdict.get('verdict')!r} ({verdict.get('reason', '')}){remedy}")
    if verdict.get("forced"):
        raise CheckFailed(f"{path}: the replay covered rows the training saw{remedy}")
    for role, expected in (("candidate", candidate), ("incumbent", active)):
        judged = (verdict.get(role) or {}).get("adapter_sha256")
        if judged != expected.sha256:
            raise CheckFailed(
                f"{path}: the verdict is about {role} {_short(judged)}, not {expected.name} {_short(expected.sha256)}; "
                f"replay and evaluate again{remedy}"
            )
    return str(verdict.get("reason", ""))


def _short(sha256: str | None) -> str:
    return f"({BARE_BASE})" if sha256 is None else f"{sha256[:12]}"


def _keep(state: Path, adapter: Adapter) -> Adapter:
    assert adapter.path is not None and adapter.sha256 is not None  # noqa: S101 - narrows types; a candidate has both
    target = state.parent / "adapters" / f"{adapter.name}-{adapter.sha256[:12]}.gguf"
    if not target.is_file() or sha256_path(target) != adapter.sha256:
        copy(adapter.path, target)
    return replace(adapter, path=target)


def _record(state: Path, adapter: Adapter) -> dict[str, Any]:
    path = adapter.path
    if path is not None:
        path = path.resolve()
        base = state.parent.resolve()
        path = path.relative_to(base) if path.is_relative_to(base) else path
    return {
        "name": adapter.name,
        "path": None if path is None else path.as_posix(),
        "adapter_sha256": adapter.sha256,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _from_record(state: Path, record: dict[str, Any]) -> Adapter:
    if record["path"] is None:
        return Adapter(record["name"])
    path = state.parent / record["path"]
    if not path.is_file():
        raise InputError(f"{path}: the adapter named in {state} is missing; put it back or roll back")
    if sha256_path(path) != record["adapter_sha256"]:
        raise InputError(f"{path}: not the file {state} recorded (hash differs); put it back or roll back")
    return Adapter(record["name"], path, record["adapter_sha256"])


def _state(config: Config) -> dict[str, Any]:
    path = config.live.state
    if path.exists():
        return _read(path)
    return {"active": _record(path, configured_incumbent(config)), "previous": [], "history": []}


def _read(path: Path) -> dict[str, Any]:
    state = read_json(path)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise InputError(f"{path}: not a state file of version {VERSION}; move it away to act with the incumbent")
    try:
        for record in (state["active"], *state["previous"]):
            _ = record["name"], record["path"], record["adapter_sha256"]
        _ = state["history"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: lacks {error}; move the file away to start anew") from None
    return state


def _write(
    path: Path, state: dict[str, Any], what: str, before: Adapter, after: Adapter, reason: str, *, forced: bool
) -> None:
    event = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "from": {"name": before.name, "adapter_sha256": before.sha256},
        "to": {"name": after.name, "adapter_sha256": after.sha256},
        "reason": reason,
        "forced": forced,
    }
    state["history"].append(event)
    write_json(path, {"version": VERSION} | {key: state[key] for key in ("active", "previous", "history")})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    make_folder(path.parent)
    try:
        with FileLock(path.with_name(path.name + ".lock"), timeout=10):
            yield
    except Timeout:
        raise UsageError(f"{path}: another promote or rollback is at work; try again") from None
