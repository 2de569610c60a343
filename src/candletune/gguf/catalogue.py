"""Versions of exported files: a file is never overwritten by a different one, and each has a name of its own."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from candletune.artifacts import Artifact, Record
from candletune.files import move
from candletune.hashes import sha256_path

CATALOGUE = "catalogue.json"


def versioned_name(path: Path) -> str:
    """What a version of an export is called: `custom-trading-lora-20261125-1a2b3c4d`.

    The file's stem, the day of its export (UTC; where the folder's catalogue does not have it, the day the file was
    written), and the first 8 hex digits of its hash.
    """
    digest = sha256_path(path)
    for entry in _entries(path.parent):
        if entry.sha256 == digest:
            return _name_of(entry)
    if path.stem.endswith(f"-{digest[:8]}"):
        return path.stem
    return f"{path.stem}-{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y%m%d}-{digest[:8]}"


class CatalogueEntry(Record):
    """One export.

    Attributes:
        file: its name when it was exported; `read_catalogue` gives the name it has now.
        sha256: hash of the file.
        kind: a LoRA or a whole model.
        format: number format or quantization.
        bytes: its size.
        exported: ISO 8601 in UTC.
        manifest: what the file says of itself.
    """

    file: str
    sha256: str
    kind: Literal["adapter", "merged"]
    format: str = ""
    bytes: int = 0
    exported: str
    manifest: Mapping[str, JsonValue] = {}


class _Catalogue(Artifact):
    COMMAND: ClassVar[str] = "export"
    REMEDY: ClassVar[str] = "move it away, and export again"

    files: tuple[CatalogueEntry, ...]


def hashed_files(folder: Path) -> list[tuple[Path, str, Literal["adapter", "merged"] | None]]:
    """Every GGUF of a folder by name: its hash, and its kind where the catalogue knows it."""
    kinds = {entry.sha256: entry.kind for entry in read_catalogue(folder)}
    hashes = [(path, sha256_path(path)) for path in sorted(folder.glob("*.gguf"))]
    return [(path, digest, kinds.get(digest)) for path, digest in hashes]


def put_in_place(staged: Path, target: Path) -> Path | None:
    """Move a finished file to `target`; a different older one is kept under another name, which is returned."""
    older = keep_older(target, staged)
    move(staged, target)
    return older


def keep_older(target: Path, newer: Path) -> Path | None:
    """Before `newer` takes `target`'s place: give a different older file its versioned name.

    Returns:
        The older version's new path, or None when there was none or it is the same.
    """
    if not target.exists() or sha256_path(target) == sha256_path(newer):
        return None
    kept = target.with_name(versioned_name(target) + target.suffix)
    move(target, kept)
    return kept


def record(folder: Path, entry: CatalogueEntry) -> None:
    """Add an export to the folder's catalogue (newest last).

    An entry of the same hash is replaced, and keeps its first day: the same file keeps its name.
    """
    entries = _entries(folder)
    for old in entries:
        if old.sha256 == entry.sha256:
            entry = entry.model_copy(update={"exported": old.exported})
    others = [old for old in entries if old.sha256 != entry.sha256]
    _Catalogue(files=(*others, entry)).write(folder / CATALOGUE)


def read_catalogue(folder: Path) -> list[CatalogueEntry]:
    """The exports of a folder, oldest first, each with the name its file has now."""
    return [entry.model_copy(update={"file": _file_now(folder, entry)}) for entry in _entries(folder)]


def _file_now(folder: Path, entry: CatalogueEntry) -> str:
    current = folder / entry.file
    earlier = f"{current.stem}.{entry.sha256[:8]}"  # as older versions were named at first
    kept = [current.with_name(name + current.suffix) for name in (earlier, _name_of(entry))]
    return next((path.name for path in kept if path.exists()), entry.file)


def versions(folder: Path) -> dict[str, str]:
    """The versioned name of every export of a folder, by its hash."""
    return {entry.sha256: _name_of(entry) for entry in _entries(folder)}


def _entries(folder: Path) -> tuple[CatalogueEntry, ...]:
    catalogue = _Catalogue.read_if_there(folder / CATALOGUE)
    return () if catalogue is None else catalogue.files


def _name_of(entry: CatalogueEntry) -> str:
    day = datetime.fromisoformat(entry.exported)
    return f"{Path(entry.file).stem}-{day:%Y%m%d}-{entry.sha256[:8]}"
