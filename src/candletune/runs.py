"""The run folder: atomic writes, content hashes, the manifest, the lock, and skipping what is up to date.

A stage is a plain function from files to files. `run_stage` executes it only when the fingerprint of what it
depends on (input contents, its configuration tables, the seed, the package version) differs from the one in the
manifest, or when an output is missing or was changed. The manifest entry is written last, so a run killed at any
moment leaves either the old entry or the new one, never a half.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from candletune import __version__
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError, UsageError

MANIFEST = "manifest.json"
_VERSIONED = ("polars", "ta-lib", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf")


# --- atomic writes -----------------------------------------------------------------------------------------------


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is fsynced and renamed over it, else removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused, since no JSON reader agrees on it."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is an `InputError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage that writes it first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it and run its stage again") from None


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success it takes `target`'s place, else it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# --- hashes ------------------------------------------------------------------------------------------------------


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_path(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, or of a folder's relative names and file hashes (hidden files left out)."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path)
            if not any(part.startswith(".") for part in name.parts):
                digest.update(f"{name.as_posix()}\0{sha256_path(file)}\n".encode())
        return digest.hexdigest()
    state = path.stat()
    return _sha256_file(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _sha256_file(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Cached by what changes when a file is rewritten, since a base model is gigabytes and several stages read it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value in canonical form."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


# --- run folder and stages ---------------------------------------------------------------------------------------


class RunFolder:
    """A folder that holds every file of one run: `dataset/`, `adapter/`, `gguf/`, `replay/`, `evaluation/`..."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, *parts: str) -> Path:
        """A path inside the run folder; nothing is created."""
        return self.path.joinpath(*parts)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run folder's lock; a second process gets a `UsageError` at once. The system frees it at any exit."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.file(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.path}: another candletune process works in this run folder; wait for it or choose another "
                "one with --set run.folder=FOLDER"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def manifest(self) -> dict[str, Any]:
        """The manifest, or an empty one for a new run."""
        path = self.file(MANIFEST)
        if not path.exists():
            return {"version": 1, "stages": {}}
        manifest: dict[str, Any] = read_json(path)
        if manifest.get("version") != 1:
            raise InputError(f"{path}: manifest version {manifest.get('version')!r}, expected 1; use a new run.folder")
        return manifest

    def stage_summary(self, name: str) -> dict[str, Any]:
        """What a finished stage returned; an `InputError` says which command to run when it has not finished."""
        stage = self.manifest()["stages"].get(name)
        if stage is None:
            raise InputError(f"{self.path}: stage '{name}' has not run here; run `candletune {name}` first")
        summary: dict[str, Any] = stage["summary"]
        return summary


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: command and manifest name.
        title: what a person reads while it works.
        tables: configuration tables (and top-level keys) whose values its result depends on.
        inputs: the files and folders it reads, by name, from the configuration and the run folder.
        outputs: what it writes, relative to the run folder (files or folders).
        work: does it; returns a JSON-able summary for the manifest.
    """

    name: str
    title: str
    tables: tuple[str, ...]
    inputs: Callable[[Config, RunFolder], Mapping[str, Path]]
    outputs: tuple[str, ...]
    work: Callable[[Config, RunFolder, Reporter], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What `run_stage` did: the summary, whether it was up to date already, and the seconds it took."""

    name: str
    summary: dict[str, Any]
    skipped: bool
    seconds: float


def versions() -> dict[str, str]:
    """Versions of Python, candletune and the packages that shape results (only those installed)."""
    found = {"python": platform.python_version(), "candletune": __version__}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def settings_of(config: Config, tables: tuple[str, ...]) -> dict[str, Any]:
    """The part of the configuration a stage depends on, JSON-able."""
    whole = config.model_dump(mode="json")
    return {"seed": whole["seed"]} | {table: whole[table] for table in tables}


def run_stage(stage: Stage, config: Config, run: RunFolder, reporter: Reporter, *, force: bool = False) -> StageOutcome:
    """Run a stage unless it is up to date. The caller holds `run.lock()`.

    Raises:
        InputError: an input is missing.
    """
    inputs: dict[str, str] = {}
    for name, path in stage.inputs(config, run).items():
        if not path.exists():
            raise InputError(f"{path}: missing ({name}), needed by `candletune {stage.name}`; make it first")
        inputs[name] = sha256_path(path)
    settings = settings_of(config, stage.tables)
    mark = fingerprint({"inputs": inputs, "settings": settings, "candletune": __version__})
    entry = run.manifest()["stages"].get(stage.name)
    if not force and entry is not None and entry["fingerprint"] == mark and _outputs_intact(run, entry):
        return StageOutcome(stage.name, entry["summary"], skipped=True, seconds=entry["seconds"])
    start = time.monotonic()
    summary = stage.work(config, run, reporter)
    seconds = round(time.monotonic() - start, 3)
    manifest = run.manifest()
    manifest["stages"][stage.name] = {
        "fingerprint": mark,
        "inputs": inputs,
        "settings": settings,
        "outputs": {name: sha256_path(run.file(name)) for name in stage.outputs if run.file(name).exists()},
        "summary": summary,
        "seconds": seconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    write_json(run.file(MANIFEST), manifest)
    return StageOutcome(stage.name, summary, skipped=False, seconds=seconds)


def _outputs_intact(run: RunFolder, entry: Mapping[str, Any]) -> bool:
    outputs: Mapping[str, str] = entry["outputs"]
    return all(run.file(name).exists() and sha256_path(run.file(name)) == digest for name, digest in outputs.items())
